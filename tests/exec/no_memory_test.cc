// No memory is left for a copy of a value: std::bad_alloc, which the caller turns into SQLITE_NOMEM, and nothing worse. This program's
// operator new is replaced, so that big allocations fail on demand.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "exec/request.h"

namespace {

constexpr std::size_t kBig = 1 << 20;
bool big_ones_fail = false;

void* allocate(std::size_t size) noexcept { return big_ones_fail && size >= kBig ? nullptr : std::malloc(size); }

}  // namespace

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"  // both halves are replaced, which it sees one at a time
#endif

void* operator new(std::size_t size) {
  void* const memory = allocate(size != 0 ? size : 1);
  if (memory == nullptr) throw std::bad_alloc();  // tidy: allow(throw) what an allocation does
  return memory;
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size != 0 ? size : 1); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

namespace exec {
namespace {

void expect_copies_fail(const Value& value) {
  big_ones_fail = true;
  EXPECT_THROW(const Value made(value), std::bad_alloc);
  Value assigned(std::int64_t{1});
  EXPECT_THROW(assigned = value, std::bad_alloc);
  EXPECT_THROW(const std::vector<Statement> list({{"SELECT ?1", {value}}}), std::bad_alloc);
  big_ones_fail = false;
  const Value copy(value);
  EXPECT_EQ(copy, value);
}

TEST(Value, Copy_WithoutMemory_ThrowsAndNothingElse) {
  expect_copies_fail(std::string(kBig, 'x'));
  expect_copies_fail(Blob{base::Bytes(kBig)});
}

}  // namespace
}  // namespace exec
