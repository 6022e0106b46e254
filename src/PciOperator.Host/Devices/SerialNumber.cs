using System.Buffers.Binary;
using System.Text;

namespace PciOperator.Host;

/// <summary>Serial numbers that a card carries: VPD's SN field and PCI Express' Device Serial Number capability.</summary>
internal static class SerialNumber
{
    private const int ExtendedCapabilities = 0x100;
    private const ushort DeviceSerialNumber = 0x0003;
    private const byte VpdRead = 0x90;
    private const byte VpdEnd = 0x78;

    private const byte VpdName = 0x82;
    private const int SmallestWhole = 256;

    /// <summary>
    /// The serial number of VPD, or that it can't be told: reading goes through the device, which may answer late, with an error or with
    /// garbage.
    /// </summary>
    public static ReadSerial ReadVpd(Func<byte[]?> read) =>
        Read(read, vpd => new ReadSerial(FromVpd(vpd), vpd.Length == 0 || vpd[0] != VpdName));

    /// <summary>
    /// The Device Serial Number, or that it can't be told: a device that sleeps or has fallen off the bus reads as all ones.
    /// </summary>
    public static ReadSerial ReadDsn(Func<byte[]?> read) =>
        Read(
            read,
            config => new ReadSerial(
                FromConfig(config),
                config.Length < SmallestWhole || config.AsSpan(0, 4).IndexOfAnyExcept((byte)0xff) < 0
            )
        );

    /// <summary>"a0-36-9f-ff-ff-12-34-56".</summary>
    public static bool IsDeviceSerialNumber(string text) =>
        text.Length == 23 && text.Index().All(c => c.Index % 3 == 2 ? c.Item == '-' : char.IsAsciiHexDigitLower(c.Item));

    /// <summary>The SN field of Vital Product Data (PCI local bus specification 3.0, appendix I); null when there is none.</summary>
    public static string? FromVpd(ReadOnlySpan<byte> vpd)
    {
        while (vpd.Length >= 3 && vpd[0] != VpdEnd)
        {
            if ((vpd[0] & 0x80) == 0)
            {
                int shortLength = 1 + (vpd[0] & 7);
                if (shortLength > vpd.Length)
                    return null;
                vpd = vpd[shortLength..];
                continue;
            }

            int length = BinaryPrimitives.ReadUInt16LittleEndian(vpd[1..]);
            if (length > vpd.Length - 3)
                return null;
            ReadOnlySpan<byte> fields = vpd.Slice(3, length);
            if (vpd[0] == VpdRead)
            {
                while (fields.Length >= 3)
                {
                    int size = fields[2];
                    if (size > fields.Length - 3)
                        return null;
                    if (fields[0] == 'S' && fields[1] == 'N')
                    {
                        string serial = Encoding.ASCII.GetString(fields.Slice(3, size)).Trim(' ', '\0');
                        return serial.Length > 0 && serial.All(c => c is > ' ' and <= '~') ? serial : null;
                    }

                    fields = fields[(3 + size)..];
                }
            }

            vpd = vpd[(3 + length)..];
        }

        return null;
    }

    private static ReadSerial Read(Func<byte[]?> read, Func<byte[], ReadSerial> parse)
    {
        try
        {
            ReadSerial found = read() is { } bytes ? parse(bytes) : default;
            return found.Number is null ? found : found with { Unreadable = false };
        }
        catch (HostIoException)
        {
            return new ReadSerial(null, Unreadable: true);
        }
    }

    /// <summary>"a0-36-9f-ff-ff-12-34-56" from configuration space; null when the device has no such capability.</summary>
    public static string? FromConfig(ReadOnlySpan<byte> config)
    {
        int at = ExtendedCapabilities;
        for (int steps = 0; steps < 96 && at >= ExtendedCapabilities && at + 12 <= config.Length; steps++)
        {
            uint header = BinaryPrimitives.ReadUInt32LittleEndian(config[at..]);
            if (header is 0 or uint.MaxValue)
                return null;
            if ((header & 0xffff) == DeviceSerialNumber)
            {
                ulong serial = BinaryPrimitives.ReadUInt64LittleEndian(config[(at + 4)..]);
                if (serial is 0 or ulong.MaxValue)
                    return null;
                Span<byte> bytes = stackalloc byte[8];
                BinaryPrimitives.WriteUInt64BigEndian(bytes, serial);
                return string.Join('-', bytes.ToArray().Select(b => b.ToString("x2")));
            }

            at = (int)(header >> 20);
        }

        return null;
    }
}
