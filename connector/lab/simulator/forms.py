"""The case report forms of the simulated study: 20 to 60 variables per form, with value pools."""

from dataclasses import dataclass

_UNITS = {
    "ALT": "U/L", "AST": "U/L", "ALP": "U/L", "BILI": "umol/L", "CREAT": "umol/L",
    "UREA": "mmol/L", "GLUC": "mmol/L", "SODIUM": "mmol/L", "K": "mmol/L", "CL": "mmol/L",
    "CA": "mmol/L", "ALB": "g/L", "PROT": "g/L", "HGB": "g/L", "HCT": "%", "RBC": "10^12/L",
    "WBC": "10^9/L", "PLAT": "10^9/L", "NEUT": "10^9/L", "LYM": "10^9/L",
}  # fmt: skip
_VITALS = {
    "SYSBP": "mmHg", "DIABP": "mmHg", "PULSE": "beats/min", "RESP": "breaths/min", "TEMP": "C",
    "HEIGHT": "cm", "WEIGHT": "kg", "SPO2": "%",
}  # fmt: skip

_TEXTS = {
    "yes_no": ("Y", "N", "", "NA"),
    "severity": ("Mild", "Moderate", "Severe"),
    "term": (
        "Headache", "Nausea", "Fatigue", "Dizziness", "Injection site pain", "Rash",
        "Diarrhoea", "Arthralgia", "Cough", "Insomnia",
    ),
    "drug": ("Paracetamol", "Ibuprofen", "Metformin", "Atorvastatin", "Lisinopril", "Omeprazole"),
    "sex": ("F", "M"),
    "race": ("ASIAN", "BLACK", "WHITE", "MULTIPLE", "NOT REPORTED"),
    "country": ("DEU", "FRA", "GBR", "POL", "USA"),
    "outcome": ("Recovered", "Recovering", "Not recovered", "Fatal", "Unknown"),
    "dose": ("5 mg", "10 mg", "20 mg", "500 mg", "1 g"),
    "route": ("Oral", "Intravenous", "Subcutaneous", "Topical"),
    "position": ("SITTING", "STANDING", "SUPINE"),
    "flag": ("NORMAL", "LOW", "HIGH", ""),
    "memo": (
        "", "As reported by the subject.", "Confirmed at follow-up.",
        "Source document reviewed; see the query for details of the discrepancy.",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Variable:
    """A field of a form: its type, as the API names it, and its possible values."""

    name: str
    kind: str
    pool: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """A form. A log form has many records per subject and belongs to no visit."""

    form_id: int
    key: str
    name: str
    is_log: bool
    variables: tuple[Variable, ...]


def _dates(start: int) -> tuple[object, ...]:
    return tuple(f"2024-{1 + day % 12:02}-{1 + day % 28:02}" for day in range(start, start + 40))


def _numbers(low: float, step: float) -> tuple[object, ...]:
    return tuple(f"{low + step * each:g}" for each in range(40))


def _list(prefix: str, specification: str) -> tuple[Variable, ...]:
    """Build variables from ``NAME:pool`` words; date, number and checkbox pools are generated."""
    variables = []
    for index, word in enumerate(specification.split()):
        name, pool = word.split(":")
        values: tuple[object, ...]
        if pool == "date":
            kind, values = "date", _dates(index)
        elif pool == "number":
            kind, values = "number", _numbers(1 + index, 0.5)
        elif pool == "checkbox":
            kind, values = "checkbox", (True, False)
        else:
            kind, values = ("memo" if pool == "memo" else "dropdown"), _TEXTS[pool]
        variables.append(Variable(prefix + name, kind, values))
    return tuple(variables)


def _measurements(units: dict[str, str], extra: str) -> tuple[Variable, ...]:
    variables: list[Variable] = []
    for index, (name, unit) in enumerate(units.items()):
        variables += [
            Variable(name, "number", _numbers(10 + 3 * index, 0.7)),
            Variable(f"{name}_U", "text", (unit,)),
            Variable(f"{name}_{extra}", "dropdown", _TEXTS[extra.lower()]),
        ]
    return tuple(variables)


FORMS: tuple[Form, ...] = (
    Form(101, "DM", "Demographics", False, _list("", (
        "BRTHDTC:date AGE:number SEX:sex RACE:race ETHNIC:race COUNTRY:country DMDTC:date"
        " CONSENT:yes_no CONSDTC:date RANDDTC:date ARM:dose SMOKER:yes_no ALCOHOL:yes_no"
        " PREGNANT:yes_no CHILDPOT:yes_no EDUC:number OCCUP:yes_no WEIGHT:number HEIGHT:number"
        " DMCOM:memo"))),
    Form(102, "VS", "Vital Signs", False, _measurements(_VITALS, "POSITION") + _list("VS", (
        "DTC:date TIME:number DONE:yes_no REASND:memo EVAL:yes_no CLSIG:yes_no COM:memo"
        " DEVICE:number"))),
    Form(103, "LB", "Laboratory", False, _measurements(_UNITS, "FLAG")),
    Form(104, "AE", "Adverse Events", True, _list("AE", (
        "TERM:term STDTC:date ENDTC:date ONGO:yes_no SEV:severity SER:yes_no REL:yes_no"
        " ACN:yes_no OUT:outcome SDTH:yes_no SHOSP:yes_no SLIFE:yes_no SDISAB:yes_no"
        " SCONG:yes_no SMIE:yes_no CONTRT:yes_no TOXGR:number LLT:term PT:term SOC:term"
        " REPDTC:date SPID:number PATT:yes_no DUR:number COM:memo NARR:memo CONF:checkbox"
        " FUP:yes_no FUPDTC:date SRC:memo"))),
    Form(105, "CM", "Concomitant Medication", True, _list("CM", (
        "TRT:drug DECOD:drug INDC:term DOSE:dose DOSU:route ROUTE:route FREQ:number STDTC:date"
        " ENDTC:date ONGO:yes_no PRIOR:yes_no AEREL:yes_no MHREL:yes_no REAS:memo ATC:number"
        " CLAS:number PRESP:yes_no OCCUR:yes_no STAT:yes_no SPID:number FORM:route STRG:dose"
        " COM:memo CONF:checkbox SRC:memo"))),
)  # fmt: skip
FORM_BY_KEY = {form.key: form for form in FORMS}
