"""What people look at: the web page, and what it shares with the commands for a terminal."""
