# shellcheck shell=bash
# Sourced by the other scripts: makes .venv in the repository's root if needed and installs a requirements file into it. One
# that was left half made is completed; what it holds beside stays.
#   . scripts/venv.sh requirements.txt
# PYTHON chooses the interpreter (3.10 or newer); installing again happens only when the file has changed.
venv_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv_wanted="$venv_root/$1"
venv_python="${PYTHON:-python3}"

if ! "$venv_python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
  echo "error: $venv_python is not Python 3.10 or newer; set PYTHON to one that is" >&2
  exit 2
fi
venv_does() { # run something in the environment, quietly
  "$venv_root/.venv/bin/python" "$@" >/dev/null 2>&1
}
if ! venv_does -m pip --version; then
  rm -f "$venv_root/.venv/.installed-"* # whatever was installed may be gone with pip
  if ! venv_does -c 'import os, sys; sys.exit(not os.path.exists(sys.prefix + "/pyvenv.cfg"))'; then
    "$venv_python" -m venv --clear "$venv_root/.venv"
  # one that works without pip, as other tools make them, keeps what it holds
  elif ! { venv_does -m ensurepip && venv_does -m pip --version; }; then
    echo "error: $venv_root/.venv has no pip, and ensurepip cannot give it one (Debian: apt install python3-venv);" \
      "install pip there, or delete the folder" >&2
    exit 2
  fi
fi
venv_mark="$venv_root/.venv/.installed-$1"
venv_state="$(cat "$venv_root"/requirements*.txt | cksum)"
if [ "$(cat "$venv_mark" 2>/dev/null)" != "$venv_state" ]; then
  echo "installing $1 into .venv ..."
  "$venv_root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$venv_wanted"
  echo "$venv_state" >"$venv_mark"
fi
export PATH="$venv_root/.venv/bin:$PATH"
