using System.Buffers.Binary;
using System.Text;

namespace PciOperator.Host.Tests;

public class VfMessagesTests
{
    private static readonly VfSettings Set = new("52:54:00:12:34:56", 100, 3, "802.1Q", true, false, 10, 1000, 1);

    [Fact]
    public void The_question_asks_for_VFs_without_statistics() =>
        Assert.Equal(
            "30000000"
                + "1200"
                + "0100"
                + "07000000"
                + "00000000" // length 48, RTM_GETLINK, NLM_F_REQUEST, sequence 7, kernel's port
                + "00000000"
                + "00000000"
                + "00000000"
                + "00000000" // ifinfomsg: no index
                + "0800"
                + "1D00"
                + "09000000" // IFLA_EXT_MASK: VF | SKIP_STATS
                + "0800"
                + "0300"
                + "65733100", // IFLA_IFNAME "es1"
            Hex(VfMessages.GetLink("es1", 7))
        );

    [Fact]
    public void The_question_for_traffic_asks_for_statistics() =>
        Assert.Contains("0800" + "1D00" + "01000000", Hex(VfMessages.GetLink("es1", 7, withTraffic: true)), StringComparison.Ordinal);

    [Theory]
    [InlineData("mac 52:54:00:12:34:56", "0100", "02000000" + "525400123456" + "0000000000000000000000000000000000000000000000000000")]
    [InlineData("vlan 100 qos 3", "0200", "02000000" + "64000000" + "03000000")]
    [InlineData("min_tx_rate 10 max_tx_rate 1000", "0600", "02000000" + "0A000000" + "E8030000")]
    [InlineData("spoofchk off", "0400", "02000000" + "00000000")]
    [InlineData("state enable", "0500", "02000000" + "01000000")]
    [InlineData("trust on", "0900", "02000000" + "01000000")]
    public void Each_setting_is_a_message_of_its_own(string name, string type, string content)
    {
        VfAttribute attribute = Assert.Single(VfMessages.Changes(2, VfSettings.Default, Set), a => a.Name == name);
        byte[] message = VfMessages.SetVf(5, attribute, 9);
        int inner = 4 + (content.Length / 2);
        Assert.Equal(
            Le32(16 + 16 + 4 + 4 + inner)
                + "1300"
                + "0500"
                + "09000000"
                + "00000000" // RTM_SETLINK, REQUEST | ACK
                + "00000000"
                + "05000000"
                + "00000000"
                + "00000000" // ifinfomsg: index 5
                + Le16(8 + inner)
                + "1680" // IFLA_VFINFO_LIST, nested
                + Le16(4 + inner)
                + "0180" // IFLA_VF_INFO, nested
                + Le16(inner)
                + type
                + content,
            Hex(message)
        );
    }

    [Fact]
    public void A_service_VLAN_names_its_protocol_in_network_order()
    {
        VfAttribute vlan = Assert.Single(
            VfMessages.Changes(1, VfSettings.Default, VfSettings.Default with { Vlan = 5, VlanProtocol = "802.1ad" })
        );
        Assert.Equal("0C80" + "1400" + "0100" + "01000000" + "05000000" + "00000000" + "88A80000", Le16(vlan.Type) + Hex(vlan.Content));
    }

    [Fact]
    public void Only_what_differs_is_set_and_nothing_that_a_driver_lacks()
    {
        Assert.Empty(VfMessages.Changes(0, Set, Set));
        Assert.Empty(
            VfMessages.Changes(
                0,
                Set with
                {
                    Mac = "52:54:00:AB:CD:EF",
                },
                Set with
                {
                    Mac = "52:54:00:ab:cd:ef",
                    Trust = null,
                    SpoofCheck = null,
                }
            )
        );
        Assert.Equal(["vlan 0 qos 0"], VfMessages.Changes(0, Set, Set with { Vlan = 0, VlanQos = 0 }).Select(a => a.Name));
        Assert.Throws<FormatException>(() => VfMessages.Changes(0, Set, Set with { Mac = "52:54" }));
    }

    [Fact]
    public void The_answer_is_read_with_what_each_driver_says()
    {
        byte[] vf0 = Vf(0, "525400123456", vlan: 100, qos: 3, protocol: "8100", min: 10, max: 1000, spoof: 0, state: 1, trust: 1);
        byte[] vf3 = Vf(
            3,
            "000000000000",
            vlan: 0,
            qos: 0,
            protocol: "88a8",
            min: 0,
            max: 0,
            spoof: uint.MaxValue,
            state: 0,
            trust: uint.MaxValue
        );
        byte[] answer = Answer(
            7,
            12,
            hardware: 1,
            [.. Attribute(21, Convert.FromHexString("04000000")), .. Attribute(22, [.. Attribute(1, vf0), .. Attribute(1, vf3)])]
        );
        Assert.True(VfMessages.TryParseAnswer(answer, 7, out int? errno, out string? said, out LinkVfs? link));
        Assert.Equal((null, null, 12), (errno, said, link!.Index));
        Assert.Equal([0, 3], link.Vfs.Keys.Order());
        Assert.Equal(Set, link.Vfs[0]);
        Assert.Equal(new VfSettings(VfSettings.NoMac, 0, 0, "802.1ad", null, null, 0, 0, 0), link.Vfs[3]);
        Assert.False(VfMessages.TryParseAnswer(answer, 8, out _, out _, out _));
    }

    [Fact]
    public void An_answer_with_256_VFs_is_read_whole()
    {
        byte[] list = [.. Enumerable.Range(0, 256).SelectMany(i => Attribute(1, Vf(i, $"0200000000{i:x2}", 0, 0, "8100", 0, 0, 1, 0, 0)))];
        Assert.True(list.Length < ushort.MaxValue - 4);
        Assert.True(VfMessages.TryParseAnswer(Answer(1, 2, 1, Attribute(22, list)), 1, out _, out _, out LinkVfs? link));
        Assert.Equal("02:00:00:00:00:ff", link!.Vfs[255].Mac);
    }

    [Fact]
    public void Counters_are_read_and_what_is_not_counted_is_told_from_zero()
    {
        byte[] with = [.. Vf(0, "525400123456", 0, 0, "8100", 0, 0, 1, 0, 0), .. Stats(10, 4, 5_000_000_000, 2048, 3, 1)];
        byte[] cut = [.. Vf(1, "525400123457", 0, 0, "8100", 0, 0, 1, 0, 0), .. Attribute(8, Attribute(2, [1, 2, 3, 4]))];
        byte[] without = Vf(2, "525400123458", 0, 0, "8100", 0, 0, 1, 0, 0);
        byte[] answer = Answer(7, 12, 1, Attribute(22, [.. Attribute(1, with), .. Attribute(1, cut), .. Attribute(1, without)]));
        Assert.True(VfMessages.TryParseAnswer(answer, 7, out _, out _, out LinkVfs? link));
        Assert.Equal([0, 1, 2], link!.Vfs.Keys.Order());
        (int number, VfTraffic traffic) = Assert.Single(link.Traffic);
        Assert.Equal((0, new VfTraffic(10, 4, 5_000_000_000, 2048, 3, 1)), (number, traffic));
        Assert.False(traffic.IsNothing);
        Assert.True(default(VfTraffic).IsNothing);
    }

    [Fact]
    public void Of_a_list_whose_length_has_overflowed_no_counter_is_made_up()
    {
        byte[] list =
        [
            .. Enumerable
                .Range(0, 256)
                .SelectMany(i =>
                    Attribute(1, [.. Vf(i, $"0200000000{i:x2}", 0, 0, "8100", 0, 0, 1, 0, 0), .. Stats((ulong)i + 1, 0, 0, 0, 0, 0)])
                ),
        ];
        Assert.True(list.Length > ushort.MaxValue);
        // As older kernels write it (nla_nest_end): the length's upper half is lost.
        Assert.True(VfMessages.TryParseAnswer(Answer(1, 2, 1, Attribute(22, list)), 1, out _, out _, out LinkVfs? link));
        Assert.True(link!.Traffic.Count < 256);
        Assert.All(link.Traffic, t => Assert.Equal((ulong)t.Key + 1, t.Value.ReceivedPackets));
    }

    [Fact]
    public void InfiniBand_has_other_addresses_and_says_nothing()
    {
        byte[] answer = Answer(7, 12, hardware: 32, Attribute(22, Attribute(1, Vf(0, "525400123456", 0, 0, "8100", 0, 0, 0, 0, 0))));
        Assert.True(VfMessages.TryParseAnswer(answer, 7, out _, out _, out LinkVfs? link));
        Assert.Empty(link!.Vfs);
    }

    [Theory]
    [InlineData(0, false)]
    [InlineData(0, true)]
    [InlineData(95, false)]
    [InlineData(95, true)]
    public void An_acknowledgement_or_error_is_read_with_the_kernels_words(int errno, bool capped)
    {
        byte[] request = VfMessages.GetLink("ens1", 4);
        byte[] copy = capped ? request[..16] : request;
        byte[] words = errno == 0 ? [] : Attribute(1, Encoding.UTF8.GetBytes("no trust here\0"));
        int flags = (capped ? 0x100 : 0) | (errno == 0 ? 0 : 0x200);
        byte[] body = [.. Convert.FromHexString(Le32(-errno)), .. copy, .. words];
        byte[] message = [.. Convert.FromHexString(Le32(16 + body.Length) + "0200" + Le16(flags) + "04000000" + "00000000"), .. body];
        Assert.True(VfMessages.TryParseAnswer(message, 4, out int? read, out string? said, out LinkVfs? link));
        Assert.Equal((errno, errno == 0 ? null : "no trust here", null), (read, said, link));
    }

    [Fact]
    public void Any_bytes_are_read_without_an_exception()
    {
        var random = new Random(20261120);
        byte[] whole = Answer(
            7,
            12,
            1,
            Attribute(22, Attribute(1, [.. Vf(0, "525400123456", 1, 2, "8100", 3, 4, 1, 1, 1), .. Stats(1, 2, 3, 4, 5, 6)]))
        );
        for (int i = 0; i < 100_000; i++)
        {
            byte[] bytes = [.. whole];
            for (int n = random.Next(1, 5); n > 0; n--)
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            _ = VfMessages.TryParseAnswer(bytes.AsSpan(0, random.Next(bytes.Length + 1)), 7, out _, out _, out _);
        }
    }

    private static byte[] Vf(
        int number,
        string mac,
        int vlan,
        int qos,
        string protocol,
        int min,
        int max,
        uint spoof,
        int state,
        uint trust
    )
    {
        byte[] Struct(params string[] parts) => Convert.FromHexString(Le32(number) + string.Concat(parts));
        return
        [
            .. Attribute(1, Struct(mac, new string('0', 52))),
            .. Attribute(13, new byte[32]),
            .. Attribute(2, Struct(Le32(vlan), Le32(qos))),
            .. Attribute(6, Struct(Le32(min), Le32(max))),
            .. Attribute(3, Struct(Le32(max))),
            .. Attribute(4, Struct(Le32((int)spoof))),
            .. Attribute(5, Struct(Le32(state))),
            .. Attribute(7, Struct(Le32(-1))),
            .. Attribute(9, Struct(Le32((int)trust))),
            .. Attribute(12, Attribute(1, Struct(Le32(vlan), Le32(qos), protocol, "0000"))),
        ];
    }

    /// <summary>IFLA_VF_STATS as the kernel writes it, with paddings and with what is not looked at.</summary>
    private static byte[] Stats(ulong rxPackets, ulong txPackets, ulong rxBytes, ulong txBytes, ulong rxDropped, ulong txDropped)
    {
        byte[] counters =
        [
            .. Counter(0, rxPackets),
            .. Counter(1, txPackets),
            .. Counter(2, rxBytes),
            .. Counter(3, txBytes),
            .. Counter(4, 77),
            .. Counter(5, 78),
            .. Counter(7, rxDropped),
            .. Counter(8, txDropped),
        ];
        return Attribute(8, counters);

        static byte[] Counter(int type, ulong value) => [.. Attribute(6, []), .. Attribute(type, BitConverter.GetBytes(value))];
    }

    private static byte[] Answer(uint sequence, int index, int hardware, byte[] attributes) =>
        [
            .. Convert.FromHexString(
                Le32(32 + 16 + attributes.Length)
                    + "1000"
                    + "0000"
                    + Le32((int)sequence)
                    + "00000000"
                    + "0000"
                    + Le16(hardware)
                    + Le32(index)
                    + Le32(0x1043)
                    + Le32(0)
            ),
            .. Attribute(3, "es1\0"u8.ToArray()),
            .. Attribute(13, [0]),
            .. attributes,
        ];

    private static byte[] Attribute(int type, byte[] content)
    {
        byte[] attribute = new byte[(4 + content.Length + 3) & ~3];
        BinaryPrimitives.WriteUInt16LittleEndian(attribute, (ushort)(4 + content.Length));
        BinaryPrimitives.WriteUInt16LittleEndian(attribute.AsSpan(2), (ushort)type);
        content.CopyTo(attribute, 4);
        return attribute;
    }

    private static string Le32(int value) => Convert.ToHexString(BitConverter.GetBytes(value));

    private static string Le16(int value) => Convert.ToHexString(BitConverter.GetBytes((ushort)value));

    private static string Hex(byte[] bytes) => Convert.ToHexString(bytes);
}
