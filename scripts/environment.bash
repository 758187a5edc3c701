# Copyright 2026 The kuavo_bag_converter maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

# Sourced by the other scripts: finds Python, and installs what is missing in a folder of its own.
#
#   environment FILE...        install the requirements of these files; then "$python" has them
#   test_environment FILE...   those that the tests need, too
#
# Where ROS 2 is sourced, its Python is used, and only what ROS does not bring is installed, in a
# virtual environment that sees the system's packages. Else everything comes from PyPI. The folder
# is .venv, or .venv-<distro> with ROS, or what is set as venv_name; Python is 3.10 or newer, or
# 3.<least_minor>.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# While pip installs: if it is killed, packages may lack files and pass for complete.
UNFINISHED=unfinished

# The PyPI wheels of rclpy leave this to their children, whose own rclpy would then not start.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE

# Root's pip fails where its cache cannot be written; others' goes without.
[ -w "${HOME:-/nowhere}" ] || export PIP_NO_CACHE_DIR=1

fail() {
  printf 'error: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit 1
}

# apt_line PACKAGE...: prints the command that installs them.
apt_line() {
  local sudo='sudo '
  [ "$(id -u)" -ne 0 ] || sudo=''
  echo "${sudo}apt update && ${sudo}apt install $*"
}

ros_is_sourced() {
  [ -n "${ROS_DISTRO:-}" ] && [ -n "${AMENT_PREFIX_PATH:-}" ]
}

is_supported() {
  "$1" -c "import sys; sys.exit(sys.version_info < (3, ${least_minor:-10}))" 2>/dev/null
}

# Sets `base`, the Python to build on.
find_base() {
  local candidate
  if ros_is_sourced; then
    for candidate in python3 /usr/bin/python3; do
      if is_supported "$candidate" && "$candidate" -c 'import rclpy' 2>/dev/null; then
        base=$candidate
        break
      fi
    done
    [ -n "${base:-}" ] || fail "ROS 2 $ROS_DISTRO is sourced, but python3 cannot import rclpy:" \
      "$(apt_line "ros-$ROS_DISTRO-rclpy")   (or use a shell in which ROS is not sourced)"
    "$base" -c 'import diagnostic_msgs, std_srvs' 2>/dev/null ||
      fail "ROS 2 $ROS_DISTRO is sourced, but lacks message packages:" \
        "$(apt_line "ros-$ROS_DISTRO-diagnostic-msgs" "ros-$ROS_DISTRO-std-srvs")"
    return
  fi
  # python3 first; a name with a version helps where python3 is older.
  for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
    if is_supported "$candidate"; then
      base=$candidate
      return
    fi
  done
  fail "Python 3.${least_minor:-10} or newer is needed:" "$(apt_line python3 python3-venv)"
}

# Whether PyPI has rclpy for this Python on this machine; what needs it is left out elsewhere.
has_rclpy_wheels() {
  "$python" -c 'import platform, sys
sys.exit(platform.machine() != "x86_64" or not (3, 10) <= sys.version_info[:2] <= (3, 14))'
}

make_venv() {
  local options=(--clear)
  ros_is_sourced && options+=(--system-site-packages)
  "$base" -c 'import ensurepip, venv' 2>/dev/null || fail "$base has no venv module:" \
    "$(apt_line "$("$base" -c 'import sys
name = "python3" if sys.executable == "/usr/bin/python3" else "python%d.%d" % sys.version_info[:2]
print(name + "-venv")')")"
  echo "making $venv with $("$base" --version)"
  "$base" -m venv "${options[@]}" "$venv"
}

# Prints pip's arguments for one file of requirements.
pip_arguments() {
  local file=$1 line
  if ! ros_is_sourced; then
    printf '%s\n' --requirement "$file"
    return
  fi
  while read -r line; do
    case $line in
      '' | '#'*) ;;
      # The package of the distribution has the module, but another name.
      opencv-*) "$python" -c 'import cv2' 2>/dev/null || echo "$line" ;;
      *) echo "$line" ;;
    esac
  done <"$file"
}

install_requirements() {
  local file=$1 stamp=$venv/${1//\//_} arguments constraints=() installed=yes
  [ -f "$stamp" ] && [ "$(<"$file")" = "$(<"$stamp")" ] && return
  echo "installing what $file asks for"
  if ros_is_sourced; then
    # cv_bridge is compiled against the numpy that is there; pyarrow 26 refuses numpy 1.
    "$python" -c 'import numpy
print("numpy==" + numpy.__version__)
if numpy.__version__ < "2": print("pyarrow<26")' >"$venv/constraints.txt"
    constraints=(--constraint "$venv/constraints.txt")
  fi
  mapfile -t arguments < <(pip_arguments "$file")
  touch "$venv/$UNFINISHED"
  "$python" -m pip install --quiet --disable-pip-version-check "${constraints[@]}" \
    "${arguments[@]}" || installed=no
  rm "$venv/$UNFINISHED"
  [ "$installed" = yes ] || fail "pip could not install $file, see above"
  cp "$file" "$stamp"
}

environment() {
  local file base='' venv=$root/.venv
  find_base
  ros_is_sourced && venv=$root/.venv-$ROS_DISTRO
  [ -z "${venv_name:-}" ] || venv=$root/$venv_name
  python=$venv/bin/python
  if [ -e "$venv/$UNFINISHED" ] || ! "$python" -m pip --version >/dev/null 2>&1; then
    make_venv
  fi
  for file in "$@"; do
    install_requirements "$file"
  done
}

# test_environment FILE...: what the tests need, and what these files ask for.
test_environment() {
  environment requirements.txt scripts/requirements-test.txt "$@"
  ros_is_sourced && return
  if has_rclpy_wheels; then
    environment scripts/requirements-ros.txt
  else
    echo 'PyPI has no rclpy for this Python and machine: tests of the node will be skipped'
  fi
}
