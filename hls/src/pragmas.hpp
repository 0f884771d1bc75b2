// Pragmas in macros: such as are used more than once, and such as have macros for options.
#pragma once

// Two levels, so that macros in the options are replaced before they become text (UG1399, "Using
// Constants with Pragmas"). tests/hls/pragmas.py reads what comes out.
#define ZIPML_PRAGMA_TEXT(text) _Pragma(#text)
#define ZIPML_PRAGMA(options) ZIPML_PRAGMA_TEXT(HLS options)

// clang-format off: one continued line each
// What a pass of the loop writes to a memory is read so many passes later, or after that.
#define ZIPML_READ_BEHIND_WRITE(memory, passes) \
  ZIPML_PRAGMA(DEPENDENCE variable=memory type=inter direction=RAW distance=passes dependent=true)
// A pass never reads from a memory what it writes to it itself.
#define ZIPML_NO_READ_OF_OWN_WRITE(memory) \
  ZIPML_PRAGMA(DEPENDENCE variable=memory type=intra dependent=false)
// What a loop writes to a memory it does not read: two halves.
#define ZIPML_NOT_SHARED(memory) \
  ZIPML_PRAGMA(DEPENDENCE variable=memory type=inter dependent=false) \
  ZIPML_PRAGMA(DEPENDENCE variable=memory type=intra dependent=false)
// clang-format on
