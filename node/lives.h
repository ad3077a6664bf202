// What a node remembers of the others since it started: how often each was started, the terms it spoke in, and how many committed entries
// it held (R10). A disk that was put back to an older copy may have forgotten a vote or an acknowledged entry; a node whose statement is
// behind what is remembered of its incarnation is refused. Best effort: only those who met the later life know of it, and their own restart
// forgets it. Pure. Loop lane. Caller: node_cluster.cc.
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
  // The statement of a node that connects, from the process that drew `boot_nonce`. kRefused: what it has forgotten, and the fix. The
  // statement may have been on its way for a while: nothing that is heard of the node before it is connected belongs into has_term(), held().
  base::Status check(base::Member member, std::uint64_t boot_nonce, const Hello& hello);
  // It said what leaves a node only when this term is on its disk.
  void has_term(base::Member member, base::Term term);
  // Committed entries up to `index` were on its disk.
  void held(base::Member member, base::Index index);

 private:
  struct Life {
    std::uint64_t boot = 0;  // counts the starts of one incarnation, so it only rises
    std::uint64_t boot_nonce = 0;
    bool unsynced = false;
    base::Term term;
    base::Index held;
    bool older_start =
        false;  // has come with a lower counter: that copy may count up to where it passes for a later start
    std::uint64_t met = 0;  // when it was connected last, counted in connections
  };
  std::string forgot(Life& life, const Hello& hello);
  void forget_the_oldest(base::NodeId id);

  std::map<base::Member, Life> lives_;
  std::uint64_t connections_ = 0;
};

}  // namespace node
