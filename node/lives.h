// What a node remembers of the others since it started: how often each was started, the terms it spoke in, and how many committed entries
// it held (R10). A disk that was put back to an older copy may have forgotten a vote or an acknowledged entry; a node whose statement is
// behind what is remembered of it is refused, until it comes with another incarnation. Best effort: only those who met the later life know of
// it, and their own restart forgets it. Pure. Loop lane. Caller: node_cluster.cc.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "node/hello.h"

namespace node {

class Lives {
 public:
  // The statement of a node that connects, from the process that drew `boot_nonce`. kRefused: why it is older than a later life of that
  // incarnation, and the fix. To be asked once per connection, with the statement made for it.
  base::Status check(base::Member member, std::uint64_t boot_nonce, const Hello& hello);
  // It said what leaves a node only when this term is on its disk.
  void has_term(base::Member member, base::Term term);
  // Committed entries up to `index` were on its disk.
  void held(base::Member member, base::Index index);

 private:
  struct Life {
    base::Incarnation incarnation;
    std::uint64_t boot = 0;  // counts the starts of one incarnation, so it only rises
    std::uint64_t boot_nonce = 0;
    bool unsynced = false;
    base::Term term;
    base::Index held;
    std::string forgot;  // not empty: it has come as an older copy, whatever it says later
  };
  Life* life_of(base::Member member);

  std::map<base::NodeId, Life> lives_;
};

}  // namespace node
