// The log reader as a Python module: files in, numpy arrays out. No torch, no policy: what a file
// should look like is decided in mclrec_fast/data/layout.py, the words for problems in messages.py.
// mclrec_fast/data/numpy_reader.py is its twin and gives the same arrays and problems.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>

#include "reader/census.h"
#include "reader/csr.h"
#include "reader/read_file.h"

namespace py = pybind11;
namespace reader = mclrec::reader;

namespace {

// A numpy array that owns the buffer's memory.
template <typename T, typename From>
py::array_t<T> take(reader::Buffer<From>& buffer) {
  static_assert(sizeof(T) == sizeof(From));
  const auto size = static_cast<py::ssize_t>(buffer.size());
  if (size == 0) return py::array_t<T>(0);
  auto* data = reinterpret_cast<T*>(buffer.release());
  py::capsule owner(data, [](void* memory) { std::free(memory); });
  return py::array_t<T>(size, data, owner);
}

// int64 array, or a list of str.
py::object ids(const reader::IdMap& map) {
  if (!map.is_text()) {
    const auto& values = map.integers();
    return py::array_t<int64_t>(static_cast<py::ssize_t>(values.size()), values.data());
  }
  py::list texts(map.size());
  for (size_t i = 0; i < map.size(); ++i) {
    const std::string_view text = map.texts()[i];
    texts[i] = py::str(text.data(), text.size());
  }
  return texts;
}

py::list problems(const std::vector<reader::Problem>& found) {
  py::list records;
  for (const reader::Problem& p : found) {
    records.append(py::make_tuple(p.line, p.code, p.field, py::bytes(p.detail), p.number));
  }
  return records;
}

// The blocks of a Python function, each alive until the next is asked for.
reader::Pull pull_from(const py::object& next, std::shared_ptr<py::bytes> held) {
  return [&next, held] {
    py::gil_scoped_acquire acquire;
    *held = py::cast<py::bytes>(next());
    return static_cast<std::string_view>(*held);
  };
}

// How far a file has been read, for a thread that watches.
struct Progress {
  std::atomic<int64_t> bytes{0};
};

// From the Layout of mclrec_fast/data/layout.py, or anything with attributes of the same names.
reader::Layout layout_of(const py::object& from) {
  const auto get = [&]<class T>(const char* name, T& to) { to = py::cast<T>(from.attr(name)); };
  reader::Layout layout;
  layout.table = py::cast<std::string>(from.attr("kind")) == "table";
  get("delimiter", layout.delimiter);
  if (layout.delimiter.empty() || layout.delimiter.size() > 2) {
    throw py::value_error("delimiter must be one or two bytes");
  }
  get("quotes", layout.quotes);
  get("columns", layout.columns);
  if (!layout.table) return layout;
  get("user", layout.user);
  get("item", layout.item);
  get("time", layout.time);
  get("rating", layout.rating);
  get("then", layout.then);
  get("time_is_iso", layout.time_is_iso);
  get("then_is_iso", layout.then_is_iso);
  const std::array<int, 5> parts = {layout.user, layout.item, layout.time, layout.rating,
                                    layout.then};
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i] < (i < 2 ? 0 : -1) || parts[i] >= layout.columns) {
      throw py::value_error("a column is outside the table");
    }
    if (parts[i] >= 0 && std::count(parts.begin(), parts.end(), parts[i]) > 1) {
      throw py::value_error("a column has two parts");
    }
  }
  return layout;
}

// From a dict of descriptors by column, and the rows to hold in memory.
reader::Spool spool_of(const py::dict& from, const reader::Layout& layout) {
  reader::Spool spool;
  const auto get = [&](const char* name, int* to, bool needed) {
    if (needed) *to = py::cast<int>(from[name]);
  };
  get("users", &spool.users, true);
  get("items", &spool.items, true);
  get("times", &spool.times, layout.table && layout.time >= 0);
  get("then", &spool.then, layout.table && layout.then >= 0);
  get("ratings", &spool.ratings, layout.table && layout.rating >= 0);
  spool.rows = py::cast<size_t>(from["rows"]);
  return spool;
}

py::dict read_file(const py::bytes& path, const py::object& described, int threads,
                   int64_t bytes_per_thread, int64_t block_bytes, const py::object& stream,
                   Progress* progress, const py::object& spooled) {
  const reader::Layout layout = layout_of(described);
  const auto offset = py::cast<int64_t>(described.attr("offset"));
  const auto first_line = py::cast<int64_t>(described.attr("first_line"));
  if (offset < 0 || threads < 1 || bytes_per_thread < 1 || block_bytes < 1) {
    throw py::value_error(
        "threads, bytes_per_thread and block_bytes must be 1 or more, offset 0 or more");
  }
  const bool spools = !spooled.is_none();
  const reader::Spool spool =
      spools ? spool_of(py::cast<py::dict>(spooled), layout) : reader::Spool();
  if (spools && threads != 1) throw py::value_error("one thread spools");
  const reader::Effort effort{.threads = threads,
                              .bytes_per_thread = bytes_per_thread,
                              .block_bytes = static_cast<size_t>(block_bytes),
                              .bytes_read = progress == nullptr ? nullptr : &progress->bytes,
                              .spool = spools ? &spool : nullptr};
  const std::string name = path;
  const auto held = std::make_shared<py::bytes>();
  const reader::Pull pull = stream.is_none() ? reader::Pull() : pull_from(stream, held);
  reader::Log log;
  try {
    py::gil_scoped_release release;
    log = pull ? reader::read_stream(pull, first_line, layout, effort)
               : reader::read_log(name, offset, first_line, layout, effort);
  } catch (const reader::SpoolError& error) {
    errno = error.code().value();
    PyErr_SetFromErrno(PyExc_OSError);  // without a name: it is not the log that failed
    throw py::error_already_set();
  } catch (const std::system_error& error) {
    errno = error.code().value();
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, name.c_str());
    throw py::error_already_set();
  }
  py::dict result;
  result["problems"] = problems(log.problems);
  result["bad"] = log.n_problems;
  result["users"] = take<int32_t>(log.users);
  result["items"] = take<int32_t>(log.items);
  result["user_ids"] = ids(log.user_ids);
  result["item_ids"] = ids(log.item_ids);
  result["times"] = py::none();
  result["ratings"] = py::none();
  if (layout.time >= 0 && log.times_are_float) result["times"] = take<double>(log.times);
  if (layout.time >= 0 && !log.times_are_float) result["times"] = take<int64_t>(log.times);
  result["then"] = py::none();
  if (layout.then >= 0 && log.then_is_float) result["then"] = take<double>(log.then);
  if (layout.then >= 0 && !log.then_is_float) result["then"] = take<int64_t>(log.then);
  if (layout.rating >= 0) result["ratings"] = take<double>(log.ratings);
  result["times_are_float"] = log.times_are_float;
  result["then_are_float"] = log.then_is_float;
  result["times_spooled_integers"] = log.times_spooled_integers;
  result["then_spooled_integers"] = log.then_spooled_integers;
  return result;
}

template <typename Time>
py::array_t<int64_t> group_of(const py::array& users, py::array& items, py::array* times,
                              int64_t n_users, int threads) {
  const auto rows = static_cast<int64_t>(users.size());
  py::array_t<int64_t> offsets(static_cast<py::ssize_t>(n_users + 1));
  const auto* u = static_cast<const int32_t*>(users.data());
  auto* i = static_cast<int32_t*>(items.mutable_data());
  auto* t = times == nullptr ? nullptr : static_cast<Time*>(times->mutable_data());
  int64_t* o = offsets.mutable_data();
  py::gil_scoped_release release;
  const bool inside = std::all_of(u, u + rows, [&](int32_t c) { return c >= 0 && c < n_users; });
  if (!inside) throw std::invalid_argument("a user code is outside 0..n_users-1");
  reader::group_rows(u, i, t, rows, n_users, threads, o);
  return offsets;
}

py::array_t<int64_t> group(const py::array& users, py::array& items, const py::object& times,
                           int64_t n_users, int threads) {
  const auto flat = [&](const py::array& array) {
    return array.ndim() == 1 && array.size() == users.size() &&
           (array.flags() & py::array::c_style) != 0;
  };
  if (!py::isinstance<py::array_t<int32_t>>(users) ||
      !py::isinstance<py::array_t<int32_t>>(items) || !flat(users) || !flat(items)) {
    throw py::value_error("users and items must be contiguous int32 arrays of one length");
  }
  if (n_users < 0 || threads < 1) throw py::value_error("n_users or threads is out of range");
  if (times.is_none()) return group_of<int64_t>(users, items, nullptr, n_users, threads);
  if (py::isinstance<py::array>(times)) {
    auto array = py::cast<py::array>(times);
    if (flat(array) && py::isinstance<py::array_t<int64_t>>(array)) {
      return group_of<int64_t>(users, items, &array, n_users, threads);
    }
    if (flat(array) && py::isinstance<py::array_t<double>>(array)) {
      return group_of<double>(users, items, &array, n_users, threads);
    }
  }
  throw py::value_error("times must be a contiguous int64 or float64 array as long as users");
}

template <typename Time>
py::tuple census_of(const py::array& items, const py::array& offsets, const py::array* times,
                    int threads) {
  const auto* i = static_cast<const int32_t*>(items.data());
  const auto* o = static_cast<const int64_t*>(offsets.data());
  const auto* t = times == nullptr ? nullptr : static_cast<const Time*>(times->data());
  const auto n_users = static_cast<int64_t>(offsets.size()) - 1;
  py::array_t<bool> repeats(items.size());
  auto* r = reinterpret_cast<uint8_t*>(repeats.mutable_data());
  reader::Census found;
  {
    py::gil_scoped_release release;
    const bool rising = std::is_sorted(o, o + n_users + 1);
    if (!rising || o[0] != 0 || o[n_users] != static_cast<int64_t>(items.size())) {
      throw std::invalid_argument("offsets do not divide the items");
    }
    found = reader::take_census(i, o, t, n_users, threads, r);
  }
  return py::make_tuple(repeats, found.tied, found.duplicates);
}

bool flat(const py::array& array) {
  return array.ndim() == 1 && (array.flags() & py::array::c_style) != 0;
}

py::tuple census(const py::array& items, const py::array& offsets, const py::object& times,
                 int threads) {
  if (!py::isinstance<py::array_t<int32_t>>(items) ||
      !py::isinstance<py::array_t<int64_t>>(offsets) || !flat(items) || !flat(offsets) ||
      offsets.size() < 1 || threads < 1) {
    throw py::value_error("items must be contiguous int32, offsets int64, threads 1 or more");
  }
  if (times.is_none()) return census_of<int64_t>(items, offsets, nullptr, threads);
  if (py::isinstance<py::array>(times)) {
    const auto array = py::cast<py::array>(times);
    const bool fits = flat(array) && array.size() == items.size();
    if (fits && py::isinstance<py::array_t<int64_t>>(array)) {
      return census_of<int64_t>(items, offsets, &array, threads);
    }
    if (fits && py::isinstance<py::array_t<double>>(array)) {
      return census_of<double>(items, offsets, &array, threads);
    }
  }
  throw py::value_error("times must be a contiguous int64 or float64 array as long as items");
}

}  // namespace

PYBIND11_MODULE(_reader, module) {
  module.doc() = "Reads interaction logs (see mclrec_fast/data/reader.py, which is what to use).";
  py::class_<Progress>(module, "Progress", "How far a file has been read.")
      .def(py::init<>())
      .def_property_readonly("bytes", [](const Progress& self) { return self.bytes.load(); });
  module.def("read", &read_file, py::arg("path"), py::arg("layout"), py::arg("threads"),
             py::arg("bytes_per_thread") = int64_t{1} << 20,
             py::arg("block_bytes") = int64_t{1} << 19, py::arg("stream") = py::none(),
             py::arg("progress") = py::none(), py::arg("spool") = py::none(),
             "Read a log file, or the blocks that `stream` returns, up to an empty one: a dict of "
             "users, items, user_ids, item_ids, times, then, ratings, the first problems as (line, "
             "code, field, detail, "
             "number), and their count as bad. With `spool`, a dict of file descriptors, the "
             "columns are written there instead, by one thread.");
  module.def("census", &census, py::arg("items"), py::arg("offsets"), py::arg("times"),
             py::arg("threads"),
             "What a grouped log repeats: whether a user had the item before (bool for each row), "
             "how many rows tie in time, how many of those are an earlier one again.");
  module.def("group", &group, py::arg("users"), py::arg("items"), py::arg("times"),
             py::arg("n_users"), py::arg("threads"),
             "Sort items and times in place by user, then by time, both stable; items are counted "
             "from 1 afterwards. Returns the offsets of the users.");
}
