// Runs a function on a few threads and passes the first exception on.
#pragma once

#include <exception>
#include <thread>
#include <vector>

namespace mclrec::reader {

template <typename Function>
void parallel(int threads, const Function& function) {
  if (threads == 1) return function(0);
  std::vector<std::exception_ptr> failures(static_cast<size_t>(threads));
  const auto guarded = [&](int t) {
    try {
      function(t);
    } catch (...) {
      failures[static_cast<size_t>(t)] = std::current_exception();
    }
  };
  std::vector<std::thread> workers;
  int started = 1;
  try {
    for (; started < threads; ++started) workers.emplace_back(guarded, started);
  } catch (...) {
    for (int t = started; t < threads; ++t) guarded(t);  // no more threads to be had
  }
  guarded(0);
  for (auto& worker : workers) worker.join();
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace mclrec::reader
