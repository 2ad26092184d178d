#!/bin/sh
# Creates the virtual environment $1 with everything that flowrl and its tests need.
#   PYTHON  the interpreter (3.11 or later); default python3
#   TORCH   cpu or cuda: which PyTorch; cpu never downloads CUDA
set -eu
venv=$1
python=${PYTHON:-python3}
torch=$(grep '^torch==' constraints.txt)
export PIP_DISABLE_PIP_VERSION_CHECK=1
quiet=--quiet
if [ -t 1 ]; then quiet=; fi  # a terminal sees what is being downloaded

fail() { echo "setup: $*" >&2; exit 1; }

command -v "$python" >/dev/null || fail "$python was not found. Install Python 3.11 or later, or type: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" --version 2>&1); flowrl needs 3.11 or later. Type: make PYTHON=python3.11"

uv=$(command -v uv || true)
if [ -n "$uv" ]; then
    install() { "$uv" pip install $quiet --python "$venv/bin/python" "$@"; }
    # The variable replaces an environment whose interpreter is gone; older releases of uv do not know `--clear`.
    [ -x "$venv/bin/python" ] || UV_VENV_CLEAR=1 "$uv" venv --quiet --seed --python "$python" "$venv"
    [ -x "$venv/bin/pip" ] || install pip  # an environment made by plain `uv venv` has no pip
else
    [ -x "$venv/bin/pip" ] || "$python" -m venv "$venv" ||
        fail "$python cannot make a virtual environment. On Debian and Ubuntu type: apt install python3-venv"
    install() { "$venv/bin/pip" install $quiet "$@"; }
fi

# pip, not uv: a CPU wheel may be in a place that only pip's configuration names.
install_torch() { "$venv/bin/pip" install $quiet --constraint constraints.txt "$@"; }
if [ "${TORCH:-cpu}" = cuda ] || [ "$(uname -s)" = Darwin ]; then
    echo "setup: PyTorch from the package index" >&2
    install_torch "$torch"
elif ! install_torch "$torch+cpu" 2>/dev/null; then
    echo "setup: PyTorch for the CPU (200 MB), from its own index" >&2
    install_torch "$torch+cpu" --extra-index-url https://download.pytorch.org/whl/cpu ||
        fail "no CPU build of $torch was found. Type 'make TORCH=cuda' to take the large one, with CUDA."
fi
echo "setup: flowrl and its tools (about a minute)" >&2
install --constraint constraints.txt --editable '.[dev,classic]'
