// Stands in for the CUDA toolkit's header of this name where device sources are compiled for the
// emulator.
#pragma once

#include <simt/atomics.hpp>
#include <simt/intrinsics.hpp>
#include <simt/keywords.hpp>
#include <simt/launch.hpp>
#include <simt/runtime_api.hpp>
#include <simt/vector_types.hpp>
#include <simt/warp.hpp>
