// Variance-optimal levels: docs/levels.md.
#include <cstdint>

extern "C" {
#include "levels.h"
}
