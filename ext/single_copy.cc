// The process-wide token (ext/single_copy.h).
//
// Note (ELF, section .note.hiqlite, type 1, owner "hiqlite"): descriptor of 4 bytes, a signed offset from the descriptor to the
// Token below. Token and note keep this layout in every version: old and new copies must find each other.
#include "ext/single_copy.h"

#include <elf.h>
#include <link.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>

namespace {

struct Token {
  std::atomic<std::uint32_t> claimed{0};  // 1: this copy has the process
};

}  // namespace

// A C name because the note refers to it.
extern "C" {
__attribute__((visibility("hidden"), used)) Token hiqlite_process_token;
}

__asm__(
    ".pushsection .note.hiqlite, \"a\", %note\n"
    ".balign 4\n"
    ".long 8\n"  // size of the owner's name
    ".long 4\n"  // size of the descriptor
    ".long 1\n"  // type
    ".asciz \"hiqlite\"\n"
    ".long hiqlite_process_token - .\n"
    ".popsection\n");

namespace ext {
namespace {

constexpr std::uint32_t kNoteType = 1;
constexpr char kNoteOwner[8] = "hiqlite";

constexpr std::size_t round_up(std::size_t value, std::size_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// The token of a loaded object, or null.
Token* token_in_notes(const char* notes, std::size_t size, std::size_t alignment) {
  std::size_t at = 0;
  while (at + sizeof(ElfW(Nhdr)) <= size) {
    ElfW(Nhdr) header;
    std::memcpy(&header, notes + at, sizeof header);
    const std::size_t name = at + sizeof header;
    const std::size_t descriptor = at + round_up(sizeof header + header.n_namesz, alignment);
    const std::size_t end = descriptor + header.n_descsz;
    if (end > size) return nullptr;
    if (header.n_type == kNoteType && header.n_namesz == sizeof kNoteOwner && header.n_descsz == sizeof(std::int32_t) &&
        std::memcmp(notes + name, kNoteOwner, sizeof kNoteOwner) == 0) {
      std::int32_t offset = 0;
      std::memcpy(&offset, notes + descriptor, sizeof offset);
      return reinterpret_cast<Token*>(const_cast<char*>(notes) + descriptor + offset);
    }
    at = round_up(end, alignment);
  }
  return nullptr;
}

struct Scan {
  bool taken = false;
  std::string by;
};

int look_for_claim(dl_phdr_info* object, std::size_t, void* argument) {
  auto& scan = *static_cast<Scan*>(argument);
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the loader tells addresses
    const auto* notes = reinterpret_cast<const char*>(object->dlpi_addr + segment.p_vaddr);
    Token* token = token_in_notes(notes, segment.p_memsz, segment.p_align == 8 ? 8 : 4);
    if (token == nullptr || token == &hiqlite_process_token || token->claimed.load() == 0) continue;
    scan.taken = true;
    scan.by = object->dlpi_name[0] != '\0' ? object->dlpi_name : "the program itself";
    return 1;
  }
  return 0;
}

// Runs once, under the loader's lock (recursive in glibc), so that scan and claim are one step.
int scan_and_claim(dl_phdr_info*, std::size_t, void* argument) {
  auto& scan = *static_cast<Scan*>(argument);
  dl_iterate_phdr(look_for_claim, &scan);
  if (!scan.taken) hiqlite_process_token.claimed.store(1);
  return 1;
}

}  // namespace

base::Status claim_process() {
  Scan scan;
  dl_iterate_phdr(scan_and_claim, &scan);
  if (!scan.taken) return base::ok();
  return base::make_error(base::Code::kRefused, "another copy of the extension is already loaded in this process: " +
                                                    scan.by + "; load that one");
}

void release_process() { hiqlite_process_token.claimed.store(0); }

}  // namespace ext
