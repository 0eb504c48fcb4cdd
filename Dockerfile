FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# Install the pinned pip first: the base image's pip has no --build-constraint.
COPY constraints.txt .
RUN --mount=type=cache,target=/root/.cache/pip pip install --constraint constraints.txt pip
COPY pyproject.toml README.md LICENSE ./
COPY connector connector
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt --build-constraint constraints.txt '.[demo]'

FROM python:3.12-slim
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SOURCE_STATE_DIR=/var/lib/imednet-connector
# A new named volume inherits the owner of the folder it is mounted on.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin connector \
    && install --directory --owner=connector --group=connector --mode=0700 "$SOURCE_STATE_DIR"
COPY --from=build /opt/venv /opt/venv
USER connector
ENTRYPOINT ["imednet-connector"]
