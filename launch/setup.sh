# Shared by launch/quickstart.sh and tests/run.sh, which source it: packages, build, MPI. Bash.

filigree_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
headline() { printf '\n== %s\n' "$*"; }
fail() {
  printf '%s: error: %s\n' "$(basename "$0")" "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 2
}

have() { command -v "$1" >/dev/null 2>&1; }

# packages_of GROUP...: the packages of these groups, one a line.
packages_of() {
  local group
  for group in "$@"; do
    awk -v group="$group" '$1 == group { print $2 }' "$filigree_root/launch/packages.txt"
  done
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# as_root COMMAND...: runs it as root.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

apt_updated=no
apt_update() {
  [ "$apt_updated" = no ] || return 0
  say "Updating the package lists (apt-get update)"
  as_root apt-get update -qq || return 1
  apt_updated=yes
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# missing_packages GROUP...: sets `missing` to those of the groups' packages that are not installed.
missing_packages() {
  local package
  missing=()
  for package in $(packages_of "$@"); do installed "$package" || missing+=("$package"); done
}

# ensure_packages yes|no GROUP...: installs what is missing of the groups (yes) or only says what is (no).
ensure_packages() {
  local install=$1
  shift
  if ! have dpkg-query || ! have apt-get; then
    say "This system has no apt, so nothing is installed. What Filigree needs, by its Debian names:"
    say "  $(packages_of "$@" | tr '\n' ' ')"
    return 0
  fi
  missing_packages "$@"
  if [ ${#missing[@]} -eq 0 ]; then
    say "Every package it needs is installed."
    return 0
  fi
  local by_hand="apt-get install ${missing[*]}"
  if [ "$install" = no ]; then
    say "Not installed, and left so because of --no-install: ${missing[*]}"
    say "To install them: $by_hand"
    return 0
  fi
  say "About to install with apt-get: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ] && ! have sudo; then
    fail "installing packages needs root, and there is no sudo here" "As root: $by_hand" \
         "Then run this again."
  fi
  apt_update || fail "apt-get update failed, so the packages cannot be fetched" \
    "Check the network and /etc/apt/sources.list, or install them yourself: $by_hand" \
    "Then run this again with --no-install."
  apt_install "${missing[@]}" || fail "apt-get could not install the packages" \
    "On Ubuntu they are in the 'universe' component: add-apt-repository universe" \
    "To see the reason: $by_hand"
}

cudnn_frontend=nvidia-cudnn-frontend==1.32.0

# Whether cuDNN's header is in one of the places where CMake looks first.
have_cudnn() {
  local folder
  for folder in ${CUDNN_ROOT:+"$CUDNN_ROOT/include"} /usr/local/cuda/include /usr/include "/usr/include/$(uname -m)-linux-gnu"; do
    [ ! -f "$folder/cudnn.h" ] || return 0
  done
  return 1
}

# ensure_cudnn_frontend yes|no: where cuDNN is installed, fetches the headers of its frontend into build/cudnn_frontend (yes)
# or only says that they are missing (no). The CUDA backend does without them.
ensure_cudnn_frontend() {
  local target=$filigree_root/build/cudnn_frontend
  if [ -n "${CUDNN_FRONTEND_ROOT:-}" ] || [ -f "$target/include/cudnn_frontend.h" ] || ! have_cudnn; then return 0; fi
  local by_hand="pip install --target build/cudnn_frontend --no-deps $cudnn_frontend"
  if [ "$1" = no ]; then
    say "cuDNN is here, the headers of its frontend are not, and left so because of --no-install: $by_hand"
    return 0
  fi
  say "About to fetch the headers of cuDNN's frontend into build/cudnn_frontend: $cudnn_frontend"
  python3 -m pip install --quiet --disable-pip-version-check --target "$target" --no-deps "$cudnn_frontend" 2>/dev/null ||
    say "They could not be fetched, so cuDNN's attention is left out. By hand: $by_hand"
}

# offer_packages yes|no GROUP WHAT OTHERWISE: installs what is missing of a group that can be done without, if it can.
offer_packages() {
  have dpkg-query && have apt-get || return 0
  missing_packages "$2"
  [ ${#missing[@]} -gt 0 ] && [ "$1" = yes ] || return 0
  say "About to install $3: ${missing[*]}"
  { apt_update && apt_install "${missing[@]}"; } || say "They cannot be installed; $4"
}

# drop_root ARGUMENT...: started through sudo by the owner of the checkout, goes on as that user with these arguments, so
# that what is built does not belong to root.
drop_root() {
  if [ "$(id -u)" -ne 0 ] || [ -z "${SUDO_USER:-}" ] || [ "$SUDO_USER" = root ] || ! have sudo; then return 0; fi
  sudo -u "$SUDO_USER" test -w "$filigree_root" || return 0
  say "Going on as $SUDO_USER"
  exec sudo -u "$SUDO_USER" -H "$filigree_root/$self" "$@"
}

# build PRESET ON|OFF TARGET...: configures, with the tests or without them and what they need, and builds into
# build/PRESET.
build() {
  local preset=$1 tests=$2
  shift 2
  local log=$filigree_root/build/$preset.log
  have cmake || fail "cmake was not found" "On Debian or Ubuntu: apt-get install $(packages_of build | tr '\n' ' ')"
  mkdir -p "$filigree_root/build"
  (cd "$filigree_root" && cmake --preset "$preset" -DFILIGREE_TESTS="$tests") >"$log" 2>&1 || {
    grep -A 4 'CMake Error' "$log" >&2
    fail "configuring failed; the whole output is in $log"
  }
  cmake --build "$filigree_root/build/$preset" --parallel "$(nproc)" --target "$@" >>"$log" 2>&1 || {
    grep -A 6 -E 'error:|undefined reference|FAILED' "$log" | head -40 >&2
    fail "the build failed; the whole output is in $log" \
         "A compiler killed for memory: build with fewer jobs, cmake --build build/$preset --parallel 1"
  }
}

# Settings for mpirun on one machine; what the user has set stays.
prepare_mpi() {
  have mpirun || fail "mpirun was not found" "On Debian or Ubuntu: apt-get install openmpi-bin"
  if [ "$(id -u)" -eq 0 ]; then
    # OpenMPI refuses root unless told twice.
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
  # More ranks than cores are slow but right. Not bound to one core each: a rank's threads share what there is.
  export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
  export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
  # Containers: no probing for fabrics that are not there, no ptrace between ranks.
  export OMPI_MCA_btl=${OMPI_MCA_btl:-^openib}
  export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
}
