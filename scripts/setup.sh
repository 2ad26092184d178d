#!/bin/sh
# Makes the virtual environment $1 with everything that flowrl and its tests need.
#   PYTHON  the interpreter (3.11 or later); default python3
#   TORCH   cpu or cuda: which PyTorch; cpu never downloads CUDA
set -eu
venv=$1
python=${PYTHON:-python3}
torch=$(grep '^torch==' constraints.txt)
export PIP_DISABLE_PIP_VERSION_CHECK=1

fail() { echo "setup: $*" >&2; exit 1; }

command -v "$python" >/dev/null || fail "$python is not there. Install Python 3.11 or later, or type: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" --version 2>&1); flowrl needs 3.11 or later. Type: make PYTHON=python3.11"

uv=$(command -v uv || true)
if [ -n "$uv" ]; then
    install() { "$uv" pip install --quiet --python "$venv/bin/python" "$@"; }
    # The variable is for what a vanished interpreter leaves behind; `--clear` is unknown to older releases of uv.
    [ -x "$venv/bin/python" ] || UV_VENV_CLEAR=1 "$uv" venv --quiet --seed --python "$python" "$venv"
    [ -x "$venv/bin/pip" ] || install pip  # one made by plain `uv venv` has none
else
    [ -x "$venv/bin/pip" ] || "$python" -m venv "$venv" ||
        fail "$python cannot make a virtual environment. On Debian and Ubuntu type: apt install python3-venv"
    install() { "$venv/bin/pip" install --quiet "$@"; }
fi

# pip, not uv: a CPU wheel may lie where only pip's configuration points.
install_torch() { "$venv/bin/pip" install --quiet --constraint constraints.txt "$@"; }
if [ "${TORCH:-cpu}" = cuda ] || [ "$(uname -s)" = Darwin ]; then
    echo "setup: PyTorch as the package index has it" >&2
    install_torch "$torch"
elif ! install_torch "$torch+cpu" 2>/dev/null; then
    echo "setup: PyTorch for the CPU, from its own index" >&2
    install_torch "$torch+cpu" --extra-index-url https://download.pytorch.org/whl/cpu ||
        fail "no CPU build of $torch was found. Type 'make TORCH=cuda' to take the large one, with CUDA."
fi
echo "setup: flowrl and its tools" >&2
install --constraint constraints.txt --editable '.[dev]'
