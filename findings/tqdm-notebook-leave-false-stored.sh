#!/usr/bin/env bash
# tqdm 4.70.1 in a notebook with ipywidgets 8.1.9: a bar that leaves nothing behind stays in the file.
#
# Guess:     `leave=False` takes a bar away at its end, so a notebook that is stored has no trace of it,
#            as a terminal has none.
# Behaviour: The widget goes from the screen, but the cell's output stays in the notebook, with the bar as
#            text as it was when it was first drawn: who looks at the file where widgets are not run (a web
#            page, nbconvert) sees a bar that stands at 0% for ever. With `leave=True` the text is the same.
# Seen:      leave=False: '  0%|          | 0/100 [00:00<?, ?it/s]'
#            leave=True: '  0%|          | 0/100 [00:00<?, ?it/s]'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    tqdm==4.70.1 ipywidgets==8.1.9 nbclient==0.11.0 nbformat==5.11.1 ipykernel==7.4.0
cat >run.py <<'PYTHON'
import nbformat
from nbclient import NotebookClient

LOOP = """from tqdm.auto import tqdm
for _ in tqdm(range(100), leave={leave}):
    pass"""
shown = {}
for leave in (False, True):
    cell = nbformat.v4.new_code_cell(LOOP.format(leave=leave))
    NotebookClient(notebook := nbformat.v4.new_notebook(cells=[cell])).execute()
    texts = [one.data["text/plain"] for one in cell.outputs if one.output_type == "display_data"]
    shown[leave] = texts
    print(f"leave={leave}:", *map(repr, texts))
raise SystemExit(any(len(texts) != 1 or " 0/100 " not in texts[0] for texts in shown.values()))
PYTHON
HOME=$folder venv/bin/python run.py 2>/dev/null
