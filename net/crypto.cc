// HMAC-SHA256 and HKDF over OpenSSL's EVP interface; see net/crypto.h. Any thread.
#include "net/crypto.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <algorithm>

#include "base/check.h"
#include "base/checksum.h"

namespace net {
namespace {

const unsigned char* raw(base::ByteView bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }
unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

base::Error failure(const char* what) {
  return base::make_error(base::Code::kInternal, std::string("libcrypto: ") + what + " failed");
}

OSSL_PARAM octets(const char* name, base::ByteView bytes) {
  return OSSL_PARAM_construct_octet_string(name, const_cast<std::byte*>(bytes.data()), bytes.size());
}

struct FreeKdf {
  void operator()(EVP_KDF* kdf) const { EVP_KDF_free(kdf); }
  void operator()(EVP_KDF_CTX* context) const { EVP_KDF_CTX_free(context); }
};

char g_sha256_name[] = "SHA256";  // OSSL_PARAM wants a pointer to char

}  // namespace

base::Result<Digest> sha256(base::ByteView bytes) {
  Digest out;
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), raw(out.data()), &size, EVP_sha256(), nullptr) != 1)
    return failure("SHA-256");
  return out;
}

base::Result<Digest> hmac_sha256(base::ByteView key, base::ByteView bytes) {
  Digest out;
  unsigned int size = 0;
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), raw(bytes), bytes.size(), raw(out.data()), &size) ==
      nullptr) {
    return failure("HMAC");
  }
  return out;
}

base::Result<Digest> derive_key(base::ByteView secret, base::ByteView salt, std::string_view info) {
  CHECK(!secret.empty());
  const std::unique_ptr<EVP_KDF, FreeKdf> kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  if (!kdf) return failure("HKDF");
  const std::unique_ptr<EVP_KDF_CTX, FreeKdf> context(EVP_KDF_CTX_new(kdf.get()));
  if (!context) return failure("HKDF");
  std::array<OSSL_PARAM, 5> params = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, g_sha256_name, 0), octets(OSSL_KDF_PARAM_KEY, secret),
      octets(OSSL_KDF_PARAM_INFO, base::view_of(info)), OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end()};
  if (!salt.empty()) params[3] = octets(OSSL_KDF_PARAM_SALT, salt);
  Digest out;
  if (EVP_KDF_derive(context.get(), raw(out.data()), out.size(), params.data()) != 1) return failure("HKDF");
  return out;
}

base::Status fill_random(base::MutableByteView out) {
  if (RAND_bytes(raw(out.data()), static_cast<int>(out.size())) != 1) return failure("the random generator");
  return base::ok();
}

bool equal_secret(base::ByteView left, base::ByteView right) {
  return left.size() == right.size() && CRYPTO_memcmp(left.data(), right.data(), left.size()) == 0;
}

void FrameSeal::FreeMac::operator()(evp_mac_ctx_st* mac) const { EVP_MAC_CTX_free(mac); }

FrameSeal::FrameSeal() = default;
FrameSeal::FrameSeal(FrameSeal&&) noexcept = default;
FrameSeal& FrameSeal::operator=(FrameSeal&&) noexcept = default;
FrameSeal::~FrameSeal() = default;

FrameSeal FrameSeal::with_crc() { return {}; }

base::Result<FrameSeal> FrameSeal::with_key(const Digest& key) {
  FrameSeal seal;
  EVP_MAC* const method = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  if (method == nullptr) return failure("HMAC");
  seal.mac_.reset(EVP_MAC_CTX_new(method));
  EVP_MAC_free(method);  // the context keeps it
  if (!seal.mac_) return failure("HMAC");
  const std::array<OSSL_PARAM, 2> params = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, g_sha256_name, 0),
                                            OSSL_PARAM_construct_end()};
  if (EVP_MAC_init(seal.mac_.get(), raw(base::ByteView(key)), key.size(), params.data()) != 1) return failure("HMAC");
  return seal;
}

void FrameSeal::begin(base::ByteView header) {
  if (!mac_) {
    crc_ = base::crc32c(header);
    return;
  }
  std::array<std::byte, 8> counter;
  base::store_u64(counter.data(), counter_++);
  // Without a key: start again with the key given before.
  failed_ = EVP_MAC_init(mac_.get(), nullptr, 0, nullptr) != 1;
  update(counter);
  update(header);
}

void FrameSeal::update(base::ByteView part) {
  if (part.empty()) return;
  if (!mac_) {
    crc_ = base::crc32c(part, crc_);
    return;
  }
  if (EVP_MAC_update(mac_.get(), raw(part), part.size()) != 1) failed_ = true;
}

base::Result<FrameSeal::Tag> FrameSeal::finish() {
  Tag tag;
  tag.size = tag_size();
  if (!mac_) {
    base::store_u32(tag.bytes.data(), crc_);
    return tag;
  }
  Digest full;
  std::size_t size = 0;
  if (failed_ || EVP_MAC_final(mac_.get(), raw(full.data()), &size, full.size()) != 1) return failure("HMAC");
  std::copy_n(full.begin(), tag.size, tag.bytes.begin());
  return tag;
}

}  // namespace net
