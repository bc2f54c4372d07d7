# Sets "python" for the other scripts: PYTHON, or the first of these that has MMEngine: that of the active environment,
# and that of this checkout.
tools=$(dirname "${BASH_SOURCE[0]}") python=${PYTHON:-}
for candidate in python "$tools/../.venv/bin/python"; do
  if [[ -z $python ]] && "$candidate" -c \
      'import importlib.util, sys; sys.exit(importlib.util.find_spec("mmengine") is None)' 2>/dev/null; then
    python=$candidate
  fi
done
if [[ -z $python ]]; then
  echo 'error: no Python with surge_mm was found: activate its environment, or set PYTHON=/path/to/bin/python' >&2
  exit 1
fi
