using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace PciOperator.Host;

/// <summary>One attribute of one VF as `RTM_SETLINK` takes it: its name for people, its number (IFLA_VF_*), its struct.</summary>
internal readonly record struct VfAttribute(string Name, ushort Type, byte[] Content);

/// <summary>What a network interface says of the VFs behind it.</summary>
/// <param name="Index">The interface's index.</param>
/// <param name="Vfs">By VF number; those of which the driver says nothing are not there.</param>
/// <param name="Traffic">What was counted, by VF number, where it was asked for.</param>
internal sealed record LinkVfs(int Index, IReadOnlyDictionary<int, VfSettings> Vfs, IReadOnlyDictionary<int, VfTraffic> Traffic);

/// <summary>
/// The rtnetlink messages for VF settings, byte for byte: pure functions (linux/netlink.h, rtnetlink.h, if_link.h; rtnetlink(7)).
/// Numbers are little-endian, as the machines are that the agent is built for; only a VLAN's protocol is in the network's order.
/// </summary>
internal static class VfMessages
{
    public const int HeaderLength = 16;
    private const int LinkHeaderLength = 16;
    private const int AttributeHeader = 4;

    private const ushort NLMSG_ERROR = 2;
    private const ushort RTM_NEWLINK = 16;
    private const ushort RTM_GETLINK = 18;
    private const ushort RTM_SETLINK = 19;
    private const ushort NLM_F_REQUEST = 1;
    private const ushort NLM_F_ACK = 4;
    private const ushort NLM_F_CAPPED = 0x100;
    private const ushort NLM_F_ACK_TLVS = 0x200;
    private const ushort NLMSGERR_ATTR_MSG = 1;
    private const ushort NLA_F_NESTED = 0x8000;
    private const ushort NLA_TYPE = 0x3fff;

    private const ushort ARPHRD_ETHER = 1;
    private const ushort IFLA_IFNAME = 3;
    private const ushort IFLA_VFINFO_LIST = 22;
    private const ushort IFLA_EXT_MASK = 29;
    private const uint RTEXT_FILTER_VF = 1;
    private const uint RTEXT_FILTER_SKIP_STATS = 8;
    private const ushort IFLA_VF_INFO = 1;
    private const ushort IFLA_VF_MAC = 1;
    private const ushort IFLA_VF_VLAN = 2;
    private const ushort IFLA_VF_SPOOFCHK = 4;
    private const ushort IFLA_VF_LINK_STATE = 5;
    private const ushort IFLA_VF_RATE = 6;
    private const ushort IFLA_VF_STATS = 8;
    private const ushort IFLA_VF_TRUST = 9;
    private const ushort IFLA_VF_VLAN_LIST = 12;
    private const ushort IFLA_VF_VLAN_INFO = 1;
    private const ushort IFLA_VF_STATS_RX_PACKETS = 0;
    private const ushort IFLA_VF_STATS_TX_PACKETS = 1;
    private const ushort IFLA_VF_STATS_RX_BYTES = 2;
    private const ushort IFLA_VF_STATS_TX_BYTES = 3;
    private const ushort IFLA_VF_STATS_RX_DROPPED = 7;
    private const ushort IFLA_VF_STATS_TX_DROPPED = 8;
    private const ushort ETH_P_8021Q = 0x8100;
    private const ushort ETH_P_8021AD = 0x88a8;
    private const int MacField = 32;
    private const int MacLength = 6;

    /// <summary>Asks for an interface with its VFs.</summary>
    /// <param name="interfaceName">The interface.</param>
    /// <param name="sequence">By which the answer is known.</param>
    /// <param name="withTraffic">With their statistics, which make the answer too long for 16-bit lengths from some 220 VFs on.</param>
    public static byte[] GetLink(string interfaceName, uint sequence, bool withTraffic = false)
    {
        var message = new Writer();
        message.Header(RTM_GETLINK, NLM_F_REQUEST, sequence);
        message.LinkHeader(0);
        message.Attribute(IFLA_EXT_MASK, UInt32(withTraffic ? RTEXT_FILTER_VF : RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS));
        message.Attribute(IFLA_IFNAME, [.. Encoding.UTF8.GetBytes(interfaceName), 0]);
        return message.End();
    }

    /// <summary>Sets one attribute of one VF; the kernel acknowledges it.</summary>
    public static byte[] SetVf(int interfaceIndex, VfAttribute attribute, uint sequence)
    {
        var message = new Writer();
        message.Header(RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, sequence);
        message.LinkHeader(interfaceIndex);
        message.Attribute(
            IFLA_VFINFO_LIST | NLA_F_NESTED,
            Attribute(IFLA_VF_INFO | NLA_F_NESTED, Attribute(attribute.Type, attribute.Content))
        );
        return message.End();
    }

    /// <summary>What must be set to get from one to the other, in the order in which the kernel itself takes them.</summary>
    public static List<VfAttribute> Changes(int vf, VfSettings current, VfSettings wanted)
    {
        var changes = new List<VfAttribute>();
        byte[] number = UInt32((uint)vf);
        if (!string.Equals(current.Mac, wanted.Mac, StringComparison.OrdinalIgnoreCase))
            changes.Add(new VfAttribute($"mac {wanted.Mac}", IFLA_VF_MAC, [.. number, .. MacBytes(wanted.Mac)]));
        if ((current.Vlan, current.VlanQos, current.VlanProtocol) != (wanted.Vlan, wanted.VlanQos, wanted.VlanProtocol))
        {
            byte[] vlan = [.. number, .. UInt32((uint)wanted.Vlan), .. UInt32((uint)wanted.VlanQos)];
            changes.Add(
                wanted.VlanProtocol == VfSettings.Default.VlanProtocol
                    ? new VfAttribute($"vlan {wanted.Vlan} qos {wanted.VlanQos}", IFLA_VF_VLAN, vlan)
                    : new VfAttribute(
                        $"vlan {wanted.Vlan} qos {wanted.VlanQos} proto {wanted.VlanProtocol}",
                        IFLA_VF_VLAN_LIST | NLA_F_NESTED,
                        Attribute(IFLA_VF_VLAN_INFO, [.. vlan, .. BigEndian(Protocol(wanted.VlanProtocol)), 0, 0])
                    )
            );
        }

        if ((current.MinTxRate, current.MaxTxRate) != (wanted.MinTxRate, wanted.MaxTxRate))
        {
            changes.Add(
                new VfAttribute(
                    $"min_tx_rate {wanted.MinTxRate} max_tx_rate {wanted.MaxTxRate}",
                    IFLA_VF_RATE,
                    [.. number, .. UInt32((uint)wanted.MinTxRate), .. UInt32((uint)wanted.MaxTxRate)]
                )
            );
        }

        if (wanted.SpoofCheck is { } spoof && current.SpoofCheck != spoof)
            changes.Add(new VfAttribute($"spoofchk {(spoof ? "on" : "off")}", IFLA_VF_SPOOFCHK, [.. number, .. UInt32(spoof ? 1u : 0)]));
        if (current.LinkState != wanted.LinkState)
        {
            changes.Add(
                new VfAttribute(
                    $"state {wanted.LinkState switch { 0 => "auto", 1 => "enable", _ => "disable" }}",
                    IFLA_VF_LINK_STATE,
                    [.. number, .. UInt32((uint)wanted.LinkState)]
                )
            );
        }

        if (wanted.Trust is { } trust && current.Trust != trust)
            changes.Add(new VfAttribute($"trust {(trust ? "on" : "off")}", IFLA_VF_TRUST, [.. number, .. UInt32(trust ? 1u : 0)]));
        return changes;
    }

    /// <summary>The kernel's answer to a sequence number: the interface, an error, or neither in these bytes.</summary>
    /// <param name="datagram">One or more messages.</param>
    /// <param name="sequence">Of the request.</param>
    /// <param name="errno">0 for an acknowledgement; null when the answer is no error message.</param>
    /// <param name="said">The kernel's own words about an error; null when it has none.</param>
    /// <param name="link">The interface; null when the answer is none.</param>
    /// <returns>Whether an answer to this request was there.</returns>
    public static bool TryParseAnswer(ReadOnlySpan<byte> datagram, uint sequence, out int? errno, out string? said, out LinkVfs? link)
    {
        (errno, said, link) = (null, null, null);
        while (datagram.Length >= HeaderLength)
        {
            uint length = Read32(datagram);
            if (length < HeaderLength || length > datagram.Length)
                return false;
            ReadOnlySpan<byte> message = datagram[..(int)length];
            datagram = datagram[Math.Min(Align((int)length), datagram.Length)..];
            if (Read32(message[8..]) != sequence)
                continue;
            ushort type = Read16(message[4..]);
            if (type == NLMSG_ERROR && message.Length >= HeaderLength + 4)
            {
                errno = -BinaryPrimitives.ReadInt32LittleEndian(message[HeaderLength..]);
                said = Words(message);
                return true;
            }

            if (type == RTM_NEWLINK && message.Length >= HeaderLength + LinkHeaderLength)
            {
                link = Link(message[HeaderLength..]);
                return true;
            }
        }

        return false;
    }

    private static LinkVfs Link(ReadOnlySpan<byte> link)
    {
        ushort hardware = Read16(link[2..]);
        int index = (int)Read32(link[4..]);
        var vfs = new Dictionary<int, VfSettings>();
        var traffic = new Dictionary<int, VfTraffic>();
        var attributes = new Attributes(link[LinkHeaderLength..]);
        bool seen = false;
        // Behind a list whose length has overflowed come parts of itself: what looks like another list is none.
        while (hardware == ARPHRD_ETHER && !seen && attributes.Next(out ushort type, out ReadOnlySpan<byte> content))
        {
            if (type != IFLA_VFINFO_LIST)
                continue;
            seen = true;
            var list = new Attributes(content);
            while (list.Next(out ushort entry, out ReadOnlySpan<byte> info))
            {
                if (entry != IFLA_VF_INFO || Vf(info) is not var (number, settings, counted))
                    continue;
                vfs[number] = settings;
                if (counted is { } counters)
                    traffic[number] = counters;
            }
        }

        return new LinkVfs(index, vfs, traffic);
    }

    /// <summary>One VF; null when it has no MAC, with which the kernel begins.</summary>
    private static (int Number, VfSettings Settings, VfTraffic? Traffic)? Vf(ReadOnlySpan<byte> info)
    {
        int? number = null;
        VfTraffic? traffic = null;
        VfSettings settings = VfSettings.Default with { Trust = null, SpoofCheck = null };
        var attributes = new Attributes(info);
        while (attributes.Next(out ushort type, out ReadOnlySpan<byte> content))
        {
            switch (type)
            {
                case IFLA_VF_MAC when content.Length >= 4 + MacLength:
                    number = (int)Read32(content);
                    settings = settings with { Mac = Mac(content.Slice(4, MacLength)) };
                    break;
                case IFLA_VF_VLAN when content.Length >= 12:
                    settings = settings with { Vlan = (int)Read32(content[4..]), VlanQos = (int)Read32(content[8..]) };
                    break;
                case IFLA_VF_VLAN_LIST:
                    var list = new Attributes(content);
                    while (list.Next(out ushort entry, out ReadOnlySpan<byte> vlan))
                    {
                        if (
                            entry == IFLA_VF_VLAN_INFO
                            && vlan.Length >= 14
                            && BinaryPrimitives.ReadUInt16BigEndian(vlan[12..]) is var protocol and not 0
                        )
                        {
                            settings = settings with { VlanProtocol = ProtocolName(protocol) };
                        }
                    }

                    break;
                case IFLA_VF_RATE when content.Length >= 12:
                    settings = settings with { MinTxRate = (int)Read32(content[4..]), MaxTxRate = (int)Read32(content[8..]) };
                    break;
                case IFLA_VF_SPOOFCHK when content.Length >= 8:
                    settings = settings with { SpoofCheck = Switch(Read32(content[4..])) };
                    break;
                case IFLA_VF_LINK_STATE when content.Length >= 8:
                    settings = settings with { LinkState = (int)Read32(content[4..]) };
                    break;
                case IFLA_VF_TRUST when content.Length >= 8:
                    settings = settings with { Trust = Switch(Read32(content[4..])) };
                    break;
                case IFLA_VF_STATS:
                    traffic = Traffic(content);
                    break;
                default:
                    break;
            }
        }

        return number is { } n ? (n, settings, traffic) : null;
    }

    /// <summary>A VF's counters; null when there is none among them.</summary>
    private static VfTraffic? Traffic(ReadOnlySpan<byte> counters)
    {
        VfTraffic? traffic = null;
        var attributes = new Attributes(counters);
        while (attributes.Next(out ushort type, out ReadOnlySpan<byte> content))
        {
            if (content.Length < sizeof(ulong))
                continue;
            VfTraffic now = traffic ?? default;
            ulong value = BinaryPrimitives.ReadUInt64LittleEndian(content);
            traffic = type switch
            {
                IFLA_VF_STATS_RX_PACKETS => now with { ReceivedPackets = value },
                IFLA_VF_STATS_TX_PACKETS => now with { SentPackets = value },
                IFLA_VF_STATS_RX_BYTES => now with { ReceivedBytes = value },
                IFLA_VF_STATS_TX_BYTES => now with { SentBytes = value },
                IFLA_VF_STATS_RX_DROPPED => now with { ReceivedDropped = value },
                IFLA_VF_STATS_TX_DROPPED => now with { SentDropped = value },
                _ => traffic,
            };
        }

        return traffic;
    }

    /// <summary>All ones: the driver has no such setting.</summary>
    private static bool? Switch(uint value) => value == uint.MaxValue ? null : value != 0;

    /// <summary>The text in an extended acknowledgement, behind the (perhaps shortened) copy of the request.</summary>
    private static string? Words(ReadOnlySpan<byte> message)
    {
        ushort flags = Read16(message[6..]);
        int start = HeaderLength + 4;
        if ((flags & NLM_F_ACK_TLVS) == 0 || message.Length < start + HeaderLength)
            return null;
        start += (flags & NLM_F_CAPPED) != 0 ? HeaderLength : Align((int)Math.Min(Read32(message[start..]), (uint)message.Length));
        if (start > message.Length)
            return null;
        var attributes = new Attributes(message[start..]);
        while (attributes.Next(out ushort type, out ReadOnlySpan<byte> content))
        {
            if (type == NLMSGERR_ATTR_MSG)
                return Encoding.UTF8.GetString(content.TrimEnd((byte)0));
        }

        return null;
    }

    private static string Mac(ReadOnlySpan<byte> bytes) =>
        string.Join(':', bytes.ToArray().Select(b => b.ToString("x2", CultureInfo.InvariantCulture)));

    private static byte[] MacBytes(string mac)
    {
        byte[] bytes = new byte[MacField];
        string[] parts = mac.Split(':');
        if (parts.Length != MacLength)
            throw new FormatException($"'{mac}' is not a MAC address such as 52:54:00:12:34:56.");
        for (int i = 0; i < MacLength; i++)
            bytes[i] = byte.Parse(parts[i], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
        return bytes;
    }

    private static string ProtocolName(ushort protocol) =>
        protocol switch
        {
            ETH_P_8021Q => "802.1Q",
            ETH_P_8021AD => "802.1ad",
            _ => $"0x{protocol:x4}",
        };

    private static ushort Protocol(string name) =>
        name switch
        {
            "802.1Q" => ETH_P_8021Q,
            "802.1ad" => ETH_P_8021AD,
            _ when name.StartsWith("0x", StringComparison.Ordinal) => ushort.Parse(
                name.AsSpan(2),
                NumberStyles.AllowHexSpecifier,
                CultureInfo.InvariantCulture
            ),
            _ => throw new FormatException($"'{name}' is not a VLAN protocol: 802.1Q or 802.1ad."),
        };

    private static byte[] Attribute(ushort type, ReadOnlySpan<byte> content)
    {
        byte[] attribute = new byte[Align(AttributeHeader + content.Length)];
        BinaryPrimitives.WriteUInt16LittleEndian(attribute, (ushort)(AttributeHeader + content.Length));
        BinaryPrimitives.WriteUInt16LittleEndian(attribute.AsSpan(2), type);
        content.CopyTo(attribute.AsSpan(AttributeHeader));
        return attribute;
    }

    private static byte[] UInt32(uint value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        return bytes;
    }

    private static byte[] BigEndian(ushort value) => [(byte)(value >> 8), (byte)value];

    private static uint Read32(ReadOnlySpan<byte> bytes) => BinaryPrimitives.ReadUInt32LittleEndian(bytes);

    private static ushort Read16(ReadOnlySpan<byte> bytes) => BinaryPrimitives.ReadUInt16LittleEndian(bytes);

    private static int Align(int length) => (length + 3) & ~3;

    /// <summary>A message that is being put together.</summary>
    private sealed class Writer
    {
        private readonly List<byte> _bytes = [];

        public void Header(ushort type, ushort flags, uint sequence)
        {
            _bytes.AddRange(UInt32(0));
            _bytes.AddRange([(byte)type, (byte)(type >> 8), (byte)flags, (byte)(flags >> 8)]);
            _bytes.AddRange(UInt32(sequence));
            _bytes.AddRange(UInt32(0));
        }

        /// <summary>struct ifinfomsg, of which only the index says something here.</summary>
        public void LinkHeader(int index)
        {
            _bytes.AddRange(UInt32(0));
            _bytes.AddRange(UInt32((uint)index));
            _bytes.AddRange(UInt32(0));
            _bytes.AddRange(UInt32(0));
        }

        public void Attribute(int type, ReadOnlySpan<byte> content) => _bytes.AddRange(VfMessages.Attribute((ushort)type, content));

        public byte[] End()
        {
            byte[] message = [.. _bytes];
            BinaryPrimitives.WriteUInt32LittleEndian(message, (uint)message.Length);
            return message;
        }
    }

    /// <summary>Goes through attributes; what is cut off ends it.</summary>
    private ref struct Attributes(ReadOnlySpan<byte> rest)
    {
        private ReadOnlySpan<byte> _rest = rest;

        public bool Next(out ushort type, out ReadOnlySpan<byte> content)
        {
            type = 0;
            content = default;
            if (_rest.Length < AttributeHeader)
                return false;
            int length = Read16(_rest);
            if (length < AttributeHeader || length > _rest.Length)
                return false;
            type = (ushort)(Read16(_rest[2..]) & NLA_TYPE);
            content = _rest[AttributeHeader..length];
            _rest = _rest[Math.Min(Align(length), _rest.Length)..];
            return true;
        }
    }
}
