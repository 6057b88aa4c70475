/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What programs on packets of sockets share: addresses, and the way to the transport header. */
#pragma once
#include "kernel.h"

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>

/* IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2). */
struct address {
	u8 bytes[16];
};

static __always_inline void address_v4(struct address *a, u32 network_order)
{
	__builtin_memset(a->bytes, 0, 10);
	a->bytes[10] = a->bytes[11] = 0xff;
	__builtin_memcpy(a->bytes + 12, &network_order, 4);
}

/*
 * Offset of the transport header if the packet is of that protocol, else 0. Fragments are not looked at, nor IPv6 packets
 * with extension headers: no TCP stack sends them.
 */
static __always_inline u32 transport_offset(struct __sk_buff *skb, u8 protocol, struct address *remote, bool egress)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (skb->protocol == bpf_htons(0x0800)) {
		struct iphdr *ip = data;

		if (data + sizeof(*ip) > end || ip->protocol != protocol || ip->frag_off & bpf_htons(0x3fff))
			return 0;
		if (remote)
			address_v4(remote, egress ? ip->daddr : ip->saddr);
		return ip->ihl * 4;
	}
	if (skb->protocol == bpf_htons(0x86dd)) {
		struct ipv6hdr *ip = data;

		if (data + sizeof(*ip) > end || ip->nexthdr != protocol)
			return 0;
		if (remote)
			__builtin_memcpy(remote, egress ? (void *)&ip->daddr : (void *)&ip->saddr, sizeof(*remote));
		return sizeof(*ip);
	}
	return 0;
}
