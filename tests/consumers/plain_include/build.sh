#!/usr/bin/env bash
# No build system at all: two include folders.
# usage: build.sh HYBRIDMED_INCLUDE EIGEN_INCLUDE PROGRAM
set -euo pipefail
"${CXX:-g++}" -std=c++20 -O1 -Wall -Wextra -Werror -MD -MF "$3.d" -I "$1" -I "$2" \
  "$(dirname "$0")/../main.cpp" -o "$3"
# The core needs the standard library and Eigen alone.
others='nlohmann|xtensor|xtl|png\.h|jpeglib\.h|utf8proc\.h|cairo|dnnl'
if grep -oE "[^ ]*/($others)[^ ]*" "$3.d"; then
  echo "the core includes the headers above"
  exit 1
fi
