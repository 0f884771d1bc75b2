"""Rows in, planes out.

| module | what is decided there |
|---|---|
| ``checks`` | what an argument may be |
| ``normalization``, ``columns`` | how a column and the labels become [-1, 1], and back |
| ``grid``, ``draws`` | the levels, and the draws that round to them |
| ``levels`` | where levels lie best |
| ``layout`` | where which bit lies: blocks, planes, words |
| ``pack``, ``pack_file``, ``planes``, ``labels`` | packing, in memory and larger than it |
| ``packed``, ``packed_file``, ``tensor_file`` | a packed data set, and its file |
| ``values`` | what planes stand for, read back |
| ``streams``, ``tables``, ``row_arrays`` | files of samples: text, tables, arrays |
| ``names``, ``missing`` | what columns are called, and numbers that are not there |
| ``counts`` | many samples of a value, as a count |
| ``datasets``, ``downloads``, ``stand_ins`` | data to try, to fetch, and made up |
| ``files`` | where files are written and read: links, pipes, devices |
| ``rows``, ``alignment``, ``compiled`` | rows and calls as compiled code takes them |
"""
