"""What libraries must be told before they load: send no usage statistics, draw no bars of their own.

Imported first by the command line. A variable that the user has set is left alone.
"""

import os

for _name, _value in {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "TRANSFORMERS_VERBOSITY": "error",
}.items():
    os.environ.setdefault(_name, _value)


def quiet_libraries() -> None:
    """Silence the loading bars of transformers and datasets; costs their import."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
