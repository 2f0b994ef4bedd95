/* libmmos: for programs that run on mmos, the manufacturing OS.
 * Generated from mmos/src/ffi.rs: do not edit.
 *
 *   bool yes;
 *   int error = mmos_is_mmos(&yes);
 *   if (error != 0 || !yes)
 *       return 77;   // not the place for tests
 *
 * SPDX-License-Identifier: Apache-2.0
 */

#ifndef MMOS_H
#define MMOS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Whether this program runs on mmos, the manufacturing OS.

 Writes the answer to `*answer`; where it cannot be told, false. May be called from any thread, at any time.

 Returns 0, or a negative errno value where it cannot be told: -EINVAL if `answer` is NULL, -EBADMSG if the boot
 record is rubbish, -EPERM if others than root can write it, -ENOSYS if /proc is not the kernel's or the kernel is
 older than 5.6, -EIO for anything unforeseen, and what the kernel said (-EACCES, ...) if it did not let us look.
 A program that must run on mmos only goes on if 0 was returned and the answer is true.

 What the answer is worth, and against whom: docs/libmmos.md.

 # Safety
 `answer` is NULL, or points to a `bool` that may be written.
 */
int mmos_is_mmos(bool *answer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMOS_H */
