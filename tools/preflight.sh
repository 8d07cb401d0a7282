#!/bin/sh
# Looks for what pip cannot install, so that a bare machine gets one line instead of a page of errors.
# Usage: tools/preflight.sh [python]
set -u
python=${1:-python3}

stop() {
  echo "bbs-kernels: $1" >&2
  exit 1
}

command -v "$python" > /dev/null || stop "$python not found: install Python 3.10 or later, or name one with PYTHON=..."
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  stop "$python is Python $version, 3.10 or later is needed: name another one with PYTHON=..."
"$python" -c 'import ensurepip, venv' 2> /dev/null ||
  stop "Python's venv module is missing: install it, for example \`apt-get install python3-venv\`"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
  stop "Python's C headers (Python.h) are missing: install them, for example \`apt-get install python3-dev\`"

# The same order as tools/build_support.py. CXX may carry options: its first word is the program.
if [ -n "${CXX:-}" ]; then
  command -v "${CXX%% *}" > /dev/null || stop "the C++ compiler CXX=$CXX was not found"
else
  command -v c++ > /dev/null || command -v g++ > /dev/null || command -v clang++ > /dev/null ||
    stop "no C++ compiler found (c++, g++, clang++): install one, for example \`apt-get install g++\`"
fi
