// Stacks and switches of the emulation's fibers; see fiber.h.
#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define MCLREC_START_SWITCH(fake, bottom, bytes) __sanitizer_start_switch_fiber(fake, bottom, bytes)
#define MCLREC_FINISH_SWITCH(fake, bottom, bytes) \
  __sanitizer_finish_switch_fiber(fake, bottom, bytes)
#else
#define MCLREC_START_SWITCH(fake, bottom, bytes) (void)0
#define MCLREC_FINISH_SWITCH(fake, bottom, bytes) (void)0
#endif

namespace emulation {
namespace {

constexpr std::size_t kStackBytes = 256 * 1024;

#ifndef MCLREC_FIBER_UCONTEXT
// Saves the callee-saved registers on the current stack and its pointer in *save, then takes up
// the stack `load`, which was left by the same routine (System V ABI, x86-64).
__attribute__((naked, noinline)) void switch_stack(void** /*save: rdi*/, void* /*load: rsi*/) {
  asm volatile(
      "pushq %rbp\n\t"
      "pushq %rbx\n\t"
      "pushq %r12\n\t"
      "pushq %r13\n\t"
      "pushq %r14\n\t"
      "pushq %r15\n\t"
      "movq %rsp, (%rdi)\n\t"
      "movq %rsi, %rsp\n\t"
      "popq %r15\n\t"
      "popq %r14\n\t"
      "popq %r13\n\t"
      "popq %r12\n\t"
      "popq %rbx\n\t"
      "popq %rbp\n\t"
      "ret\n\t");
}

thread_local Fiber* starting = nullptr;
#endif

}  // namespace

Fiber::Fiber() {
  // A page without access below the stack turns an overflow into a fault at its place.
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  mapped_bytes_ = kStackBytes + page;
  void* memory = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, page, PROT_NONE);
  stack_ = static_cast<unsigned char*>(memory) + page;
  stack_bytes_ = kStackBytes;
}

Fiber::~Fiber() { munmap(stack_ - (mapped_bytes_ - stack_bytes_), mapped_bytes_); }

void Fiber::run(void* self) {
  Fiber* fiber = static_cast<Fiber*>(self);
  MCLREC_FINISH_SWITCH(nullptr, &fiber->outside_bottom_, &fiber->outside_bytes_);
  fiber->entry_(fiber->argument_);
  __builtin_unreachable();
}

#ifdef MCLREC_FIBER_UCONTEXT

void Fiber::run_split(unsigned high, unsigned low) {
  run(reinterpret_cast<void*>((static_cast<std::uintptr_t>(high) << 32) | low));
}

void Fiber::start(Entry entry, void* argument) {
  entry_ = entry;
  argument_ = argument;
  fake_inside_ = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_, stack_bytes_);
#endif
  getcontext(&inside_);
  inside_.uc_stack.ss_sp = stack_;
  inside_.uc_stack.ss_size = stack_bytes_;
  inside_.uc_link = nullptr;
  const std::uintptr_t self = reinterpret_cast<std::uintptr_t>(this);
  makecontext(&inside_, reinterpret_cast<void (*)()>(&Fiber::run_split), 2,
              static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
}

void Fiber::resume() {
  MCLREC_START_SWITCH(&fake_outside_, stack_, stack_bytes_);
  swapcontext(&outside_, &inside_);
  MCLREC_FINISH_SWITCH(fake_outside_, nullptr, nullptr);
}

void Fiber::suspend() {
  MCLREC_START_SWITCH(&fake_inside_, outside_bottom_, outside_bytes_);
  swapcontext(&inside_, &outside_);
  MCLREC_FINISH_SWITCH(fake_inside_, &outside_bottom_, &outside_bytes_);
}

#else

void Fiber::start(Entry entry, void* argument) {
  entry_ = entry;
  argument_ = argument;
  fake_inside_ = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_, stack_bytes_);
#endif
  // The frame switch_stack() pops: six registers, then the address to go to, which finds the
  // stack as a call would leave it: 8 below a multiple of 16, a (null) return address on top.
  void** top = reinterpret_cast<void**>(stack_ + stack_bytes_);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(+[] { Fiber::run(starting); });
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  inside_ = top;
}

void Fiber::resume() {
  starting = this;
  MCLREC_START_SWITCH(&fake_outside_, stack_, stack_bytes_);
  switch_stack(&outside_, inside_);
  MCLREC_FINISH_SWITCH(fake_outside_, nullptr, nullptr);
}

void Fiber::suspend() {
  MCLREC_START_SWITCH(&fake_inside_, outside_bottom_, outside_bytes_);
  switch_stack(&inside_, outside_);
  MCLREC_FINISH_SWITCH(fake_inside_, &outside_bottom_, &outside_bytes_);
}

#endif

}  // namespace emulation
