// The scheduler behind cuda_emulation.h: runs a grid block by block, a block as fibers, and judges
// whether barriers and warp collectives are met by everyone they are for.
#include "cuda_emulation.h"

#include <cstdlib>
#include <memory>
#include <new>
#include <random>
#include <sstream>
#include <vector>

#include "fiber.h"

namespace emulation {
namespace {

constexpr std::size_t kDepositBytes = 32;
constexpr unsigned kWarp = 32;
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kGuardBytes = 0;
#else
constexpr std::size_t kGuardBytes = 256;
#endif

enum class Status { kReady, kAtBarrier, kInWarp, kFinished };

struct PendingCopy {
  void* shared;
  const void* global;
  int bytes;
  int valid_bytes;
};

struct Thread {
  ThreadView view{};
  Fiber fiber;
  Status status = Status::kFinished;
  Site waits_at{};
  std::vector<std::vector<PendingCopy>> groups;  // committed, oldest first
  std::vector<PendingCopy> open;                 // issued, not committed
};

struct Warp {
  alignas(16) unsigned char deposits[2][kWarp][kDepositBytes];
  unsigned arrived = 0;  // lanes waiting in the collective under way
  unsigned phase = 0;
  Collective kind{};
  Site site{};
};

struct SharedArray {
  const void* key;
  std::size_t bytes;
  std::unique_ptr<unsigned char, decltype(&std::free)> memory;
};

struct Machine {
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  std::vector<SharedArray> arrays;
  BlockView block{};
  unsigned count = 0;     // threads of the block
  unsigned finished = 0;  // of them, those that have returned
  unsigned at_barrier = 0;
  Site barrier_site{};
  std::size_t dynamic_bytes = 0;
  Thread* current = nullptr;
  void (*call)(void*) = nullptr;
  void* argument = nullptr;
  std::exception_ptr failure;
  Order order = Order::kForward;
  std::mt19937_64 random;
};

thread_local Machine machine;
std::int64_t launch_count = 0;
const char dynamic_key = 0;

std::string describe(Site site) {
  const std::string file(site.file);
  return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(site.line);
}

bool same(Site a, Site b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

void thread_main(void* pointer) {
  Thread* self = static_cast<Thread*>(pointer);
  try {
    machine.call(machine.argument);
    bool pending = !self->open.empty();
    for (const auto& group : self->groups) pending = pending || !group.empty();
    if (pending) throw Error("a thread returned without waiting for its asynchronous copies");
  } catch (...) {
    if (!machine.failure) machine.failure = std::current_exception();
  }
  self->status = Status::kFinished;
  ++machine.finished;
  self->fiber.suspend();
}

// The thread's wait is over when the scheduler comes back to it.
void block_here(Status status, Site site) {
  machine.current->status = status;
  machine.current->waits_at = site;
  machine.current->fiber.suspend();
}

Thread* next_runnable(unsigned* cursor) {
  const unsigned count = machine.count;
  if (machine.order == Order::kRandom) {
    *cursor = static_cast<unsigned>(machine.random() % count);
    const bool down = machine.random() & 1;
    for (unsigned i = 0; i < count; ++i) {
      Thread* thread = machine.threads[(*cursor + (down ? count - i : i)) % count].get();
      if (thread->status == Status::kReady) return thread;
    }
    return nullptr;
  }
  for (unsigned i = 0; i < count; ++i) {
    const unsigned at = (*cursor + i) % count;
    const unsigned index = machine.order == Order::kForward ? at : count - 1 - at;
    if (machine.threads[index]->status == Status::kReady) {
      *cursor = at;
      return machine.threads[index].get();
    }
  }
  return nullptr;
}

void perform(const PendingCopy& copy) {
  if (copy.valid_bytes > 0) std::memcpy(copy.shared, copy.global, copy.valid_bytes);
  std::memset(static_cast<unsigned char*>(copy.shared) + copy.valid_bytes, 0,
              copy.bytes - copy.valid_bytes);
}

[[noreturn]] void report_deadlock(const Launch& launch) {
  std::ostringstream text;
  text << "kernel launched at " << describe(launch.site) << ": " << machine.finished << " of "
       << machine.count << " threads have returned, the others wait for ever:";
  unsigned said = 0;
  for (unsigned i = 0; i < machine.count && said < 4; ++i) {
    const Thread& thread = *machine.threads[i];
    if (thread.status != Status::kAtBarrier && thread.status != Status::kInWarp) continue;
    text << " thread " << i << " at " << describe(thread.waits_at)
         << (thread.status == Status::kAtBarrier ? " (__syncthreads)" : " (warp collective)")
         << ";";
    ++said;
  }
  text << " a barrier is divergent";
  throw Error(text.str());
}

void check_guards(const Launch& launch) {
  for (const SharedArray& array : machine.arrays) {
    for (std::size_t i = 0; i < kGuardBytes; ++i) {
      if (array.memory.get()[array.bytes + i] == 0xFF) continue;
      throw Error("kernel launched at " + describe(launch.site) +
                  ": a write behind the end of a shared array of " + std::to_string(array.bytes) +
                  " bytes");
    }
  }
}

void run_block(const Launch& launch) {
  machine.finished = 0;
  machine.at_barrier = 0;
  machine.failure = nullptr;
  for (Warp& warp : machine.warps) warp.arrived = 0;
  for (SharedArray& array : machine.arrays) std::memset(array.memory.get(), 0xFF, array.bytes);
  for (unsigned i = 0; i < machine.count; ++i) {
    Thread& thread = *machine.threads[i];
    const unsigned plane = launch.block.x * launch.block.y;
    thread.view = {{i % launch.block.x, i % plane / launch.block.x, i / plane}, i};
    thread.status = Status::kReady;
    thread.groups.clear();
    thread.open.clear();
    thread.fiber.start(thread_main, &thread);
  }
  unsigned cursor = 0;
  while (machine.finished < machine.count) {
    Thread* thread = next_runnable(&cursor);
    if (thread == nullptr) report_deadlock(launch);
    machine.current = thread;
    thread->fiber.resume();
    if (machine.failure) std::rethrow_exception(machine.failure);
  }
  check_guards(launch);
}

}  // namespace

void set_schedule(Order order, std::uint64_t seed) {
  machine.order = order;
  machine.random.seed(seed);
}

std::int64_t launches() { return launch_count; }
void reset_launches() { launch_count = 0; }

void run_grid(const Launch& launch, void (*call)(void*), void* argument) {
  const dim3 grid = launch.grid, block = launch.block;
  const std::uint64_t threads = static_cast<std::uint64_t>(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024 || threads % kWarp != 0) {
    throw Error("launch at " + describe(launch.site) + ": " + std::to_string(threads) +
                " threads a block; whole warps, at most 1024, are wanted");
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7FFFFFFFu || grid.y > 65535 ||
      grid.z > 65535) {
    throw Error("launch at " + describe(launch.site) + ": the grid is empty or too large");
  }
  ++launch_count;
  machine.count = static_cast<unsigned>(threads);
  while (machine.threads.size() < threads) machine.threads.push_back(std::make_unique<Thread>());
  machine.warps.resize(threads / kWarp);
  machine.arrays.clear();
  machine.dynamic_bytes = launch.shared_bytes;
  machine.call = call;
  machine.argument = argument;
  machine.block.grid = grid;
  machine.block.threads = block;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        machine.block.block = {x, y, z};
        run_block(launch);
      }
    }
  }
  machine.arrays.clear();
}

const ThreadView& this_thread() { return machine.current->view; }
const BlockView& this_block() { return machine.block; }

void* static_shared(const void* key, std::size_t bytes) {
  for (SharedArray& array : machine.arrays)
    if (array.key == key) return array.memory.get();
  // One allocation an array, so that AddressSanitizer sees where it ends; without it, a guard
  // zone behind the array notices writes, and reads find NaN there.
  void* memory = nullptr;
  if (posix_memalign(&memory, 16, bytes + kGuardBytes) != 0) throw std::bad_alloc();
  std::memset(memory, 0xFF, bytes + kGuardBytes);
  machine.arrays.push_back({key, bytes, {static_cast<unsigned char*>(memory), &std::free}});
  return memory;
}

void* dynamic_shared() {
  if (machine.dynamic_bytes == 0) throw Error("dynamic shared memory was not asked for at launch");
  return static_shared(&dynamic_key, machine.dynamic_bytes);
}

void block_barrier(Site site) {
  if (machine.at_barrier > 0 && !same(machine.barrier_site, site)) {
    throw Error("divergent barrier: some threads of the block are at " +
                describe(machine.barrier_site) + ", thread " +
                std::to_string(machine.current->view.linear) + " is at " + describe(site));
  }
  machine.barrier_site = site;
  if (++machine.at_barrier < machine.count) {
    block_here(Status::kAtBarrier, site);
    return;
  }
  machine.at_barrier = 0;
  for (unsigned i = 0; i < machine.count; ++i) machine.threads[i]->status = Status::kReady;
}

Deposits warp_exchange(Collective kind, unsigned mask, const void* data, std::size_t bytes,
                       Site site) {
  if (mask != 0xFFFFFFFFu) {
    throw Error("warp collective at " + describe(site) + ": only full masks are emulated");
  }
  if (bytes > kDepositBytes) throw Error("warp collective: deposit too large");
  const unsigned linear = machine.current->view.linear;
  Warp& warp = machine.warps[linear / kWarp];
  if (warp.arrived > 0 && (warp.kind != kind || !same(warp.site, site))) {
    throw Error("divergent warp: some lanes are at " + describe(warp.site) + ", lane " +
                std::to_string(linear % kWarp) + " of warp " + std::to_string(linear / kWarp) +
                " is at " + describe(site));
  }
  warp.kind = kind;
  warp.site = site;
  // Two sets of deposits in turn: a lane that runs ahead fills the other one, and cannot come
  // round again before every lane has read this one and arrived at the next collective.
  unsigned char* slots = &warp.deposits[warp.phase][0][0];
  if (bytes > 0) std::memcpy(slots + linear % kWarp * kDepositBytes, data, bytes);
  if (++warp.arrived < kWarp) {
    block_here(Status::kInWarp, site);
  } else {
    warp.arrived = 0;
    warp.phase ^= 1;
    for (unsigned i = 0; i < kWarp; ++i) {
      machine.threads[linear / kWarp * kWarp + i]->status = Status::kReady;
    }
  }
  return {slots, kDepositBytes};
}

void copy_async(void* shared, const void* global, int bytes, int valid_bytes) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(shared) % bytes == 0 &&
                       (valid_bytes == 0 || reinterpret_cast<std::uintptr_t>(global) % bytes == 0);
  if ((bytes != 4 && bytes != 8 && bytes != 16) || !aligned) {
    throw Error("asynchronous copy: 4, 8 or 16 bytes, aligned to their size");
  }
  // A copy may land at any time between its issue and its wait; the schedules try both ends.
  const PendingCopy copy{shared, global, bytes, valid_bytes};
  if (machine.order == Order::kReverse ||
      (machine.order == Order::kRandom && machine.random() & 1)) {
    perform(copy);
  } else {
    machine.current->open.push_back(copy);
  }
}

void copy_commit() {
  machine.current->groups.push_back(std::move(machine.current->open));
  machine.current->open.clear();
}

void copy_wait(int groups_left_pending) {
  auto& groups = machine.current->groups;
  while (groups.size() > static_cast<std::size_t>(groups_left_pending)) {
    for (const PendingCopy& copy : groups.front()) perform(copy);
    groups.erase(groups.begin());
  }
}

}  // namespace emulation

extern "C" {

// For the tests: order 0 forward, 1 reverse, 2 random with `seed`.
void mclrec_emulation_schedule(int order, std::uint64_t seed) {
  emulation::set_schedule(static_cast<emulation::Order>(order), seed);
}
std::int64_t mclrec_emulation_launches() { return emulation::launches(); }
void mclrec_emulation_reset_launches() { emulation::reset_launches(); }

}  // extern "C"
