// One fiber: a stack of its own and a switch to and from it. On x86-64 the switch is a dozen
// instructions; elsewhere (or with MCLREC_EMULATION_UCONTEXT) it is ucontext, slower but portable.
// Not a thread: exactly one fiber of a scheduler runs at a time, and only when it is resumed.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__) || defined(MCLREC_EMULATION_UCONTEXT)
#define MCLREC_FIBER_UCONTEXT 1
#include <ucontext.h>
#endif

namespace emulation {

class Fiber {
 public:
  using Entry = void (*)(void* argument);

  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes the next resume() call entry(argument) on a fresh stack. Whatever the fiber was doing
  // is forgotten. `entry` must never return: it ends with suspend().
  void start(Entry entry, void* argument);

  // Runs the fiber until it suspends. Called by the scheduler.
  void resume();

  // Goes back to the scheduler. Called by the fiber.
  void suspend();

 private:
  static void run(void* self);

  std::size_t mapped_bytes_ = 0;
  unsigned char* stack_ = nullptr;
  std::size_t stack_bytes_ = 0;
  Entry entry_ = nullptr;
  void* argument_ = nullptr;
#ifdef MCLREC_FIBER_UCONTEXT
  static void run_split(unsigned high, unsigned low);
  ucontext_t inside_;
  ucontext_t outside_;
#else
  void* inside_ = nullptr;
  void* outside_ = nullptr;
#endif
  // What AddressSanitizer wants to know about a change of stacks.
  void* fake_inside_ = nullptr;
  void* fake_outside_ = nullptr;
  const void* outside_bottom_ = nullptr;
  std::size_t outside_bytes_ = 0;
};

}  // namespace emulation
