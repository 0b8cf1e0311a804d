// Compiles an op's kernels for every instruction set. A .cpp says which, then includes this:
//
//   #define MCLREC_OP encode                           // the kernels' namespace below mclrec
//   #define MCLREC_KERNELS "../encode_kernels.inl"     // as seen from this directory
//   #include "isa/each_set.inl"
//   ... MCLREC_PICK(encode, forward<T>)(...)           // that of the chosen set, see isa.h
//
// The kernels file has no namespace of its own and includes nothing but other such files: headers
// come before, outside. Each set has a namespace (mclrec::encode::avx2): the same template under
// one name would be merged by the linker, and an old CPU would meet instructions it lacks.
// Templates of the standard library are safe for the same reason (they are declared outside), but
// heavy inner loops must not rely on them.
#include "sets.h"

#ifdef MCLREC_SET_0
#define MCLREC_SET MCLREC_SET_0
#include "one_set.inl"
#endif
#ifdef MCLREC_SET_1
#define MCLREC_SET MCLREC_SET_1
#include "one_set.inl"
#endif
#ifdef MCLREC_SET_2
#define MCLREC_SET MCLREC_SET_2
#include "one_set.inl"
#endif
#ifdef MCLREC_SET_3
#define MCLREC_SET MCLREC_SET_3
#include "one_set.inl"
#endif
#ifdef MCLREC_SET_4
#define MCLREC_SET MCLREC_SET_4
#include "one_set.inl"
#endif
#ifdef MCLREC_SET_5
#define MCLREC_SET MCLREC_SET_5
#include "one_set.inl"
#endif

#undef MCLREC_OP
#undef MCLREC_KERNELS
