// boundary(): the one door between SQLite's C callbacks and our code. No exception passes it (R2): running out of memory, and whatever
// a library below threw, becomes `on_exception`, a SQLite result code chosen by the callback. Any thread.
#pragma once

#include <utility>

namespace vfs {

template <class Code, class Body>
Code boundary(Code on_exception, Body&& body) noexcept {
  try {
    return std::forward<Body>(body)();
  } catch (...) {
    return on_exception;
  }
}

}  // namespace vfs
