// Threads of the package's own that help callers through their task loops. Between two loops they
// wait actively for a moment, then sleep, and a caller never waits for a helper that has not begun:
// a machine that is shared with other programs loses little. (Threads of OpenMP spin for
// milliseconds, and a loop ends only when the last of them has arrived.)
// Not for callers between whose loops torch runs loops of its own on the same cores: OpenMP's
// threads would still be spinning where the helpers want to work.
#pragma once

#include "task_loop.h"

namespace mclrec {

// Runs the loop in this thread, as worker 0, and in up to `helpers` others, as workers 1 to
// `helpers`: in fewer where the system gives no more threads (said once on stderr), where other
// callers have them, or where they come too late. Returns when all that began have ended.
void run_with_helpers(TaskLoop& loop, int helpers);

}  // namespace mclrec
