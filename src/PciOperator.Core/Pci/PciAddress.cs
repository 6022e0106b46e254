using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace PciOperator.Core;

/// <summary>
/// A PCI function's address, <c>domain:bus:slot.function</c> ("BDF"): a domain of up to 32 bits (Intel VMD
/// counts from 10000), a bus of 8 bits, a slot of 5 and a function of 3.
/// </summary>
/// <remarks>Text is sysfs's: lower-case hexadecimal, at least four digits of domain: <c>0000:21:00.0</c>.</remarks>
public readonly record struct PciAddress : IComparable<PciAddress>, IComparable, ISpanParsable<PciAddress>
{
    private readonly ulong _bits;

    /// <summary>Makes an address of its fields.</summary>
    /// <param name="domain">0 to ffffffff.</param>
    /// <param name="bus">0 to ff.</param>
    /// <param name="slot">0 to 1f.</param>
    /// <param name="function">0 to 7.</param>
    /// <exception cref="ArgumentOutOfRangeException">A field is larger than PCI allows.</exception>
    public PciAddress(uint domain, int bus, int slot, int function)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)bus, 0xffu, nameof(bus));
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)slot, 0x1fu, nameof(slot));
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)function, 7u, nameof(function));
        _bits = ((ulong)domain << 16) | ((ulong)(uint)bus << 8) | ((uint)slot << 3) | (uint)function;
    }

    /// <summary>The PCI domain (segment), 0 to ffffffff.</summary>
    public uint Domain => (uint)(_bits >> 16);

    /// <summary>The bus, 0 to ff.</summary>
    public int Bus => (int)(_bits >> 8) & 0xff;

    /// <summary>The slot (device number), 0 to 1f.</summary>
    public int Slot => (int)(_bits >> 3) & 0x1f;

    /// <summary>The function, 0 to 7.</summary>
    public int Function => (int)_bits & 7;

    /// <summary>Parses the full form, <c>dddd:bb:ss.f</c> with 4 to 8 digits of domain; either case.</summary>
    /// <exception cref="FormatException">The text is not such an address.</exception>
    public static PciAddress Parse(string s) => Parse(s.AsSpan(), null);

    /// <inheritdoc/>
    public static PciAddress Parse(string s, IFormatProvider? provider) => Parse(s.AsSpan(), provider);

    /// <inheritdoc/>
    public static PciAddress Parse(ReadOnlySpan<char> s, IFormatProvider? provider) =>
        TryParse(s, provider, out PciAddress address)
            ? address
            : throw new FormatException(
                $"'{Text.Shorten(s)}' is not a PCI address; expected domain:bus:slot.function in hexadecimal, for example 0000:21:00.0."
            );

    /// <summary>Parses the full form; false when the text is not such an address.</summary>
    public static bool TryParse([NotNullWhen(true)] string? s, out PciAddress result) => TryParse(s.AsSpan(), null, out result);

    /// <inheritdoc/>
    public static bool TryParse([NotNullWhen(true)] string? s, IFormatProvider? provider, out PciAddress result) =>
        TryParse(s.AsSpan(), provider, out result);

    /// <inheritdoc/>
    public static bool TryParse(ReadOnlySpan<char> s, IFormatProvider? provider, out PciAddress result)
    {
        result = default;
        int domainDigits = s.Length - 8;
        if (domainDigits is < 4 or > 8)
            return false;
        ReadOnlySpan<char> rest = s[domainDigits..];
        if (rest[0] != ':' || rest[3] != ':' || rest[6] != '.')
            return false;
        if (
            !Hex.TryParse(s[..domainDigits], out uint domain)
            || !Hex.TryParse(rest[1..3], out uint bus)
            || !Hex.TryParse(rest[4..6], out uint slot)
            || !Hex.TryParse(rest[7..8], out uint function)
            || slot > 0x1f
            || function > 7
        )
        {
            return false;
        }

        result = new PciAddress(domain, (int)bus, (int)slot, (int)function);
        return true;
    }

    /// <summary>By domain, bus, slot, function.</summary>
    public int CompareTo(PciAddress other) => _bits.CompareTo(other._bits);

    /// <inheritdoc/>
    public int CompareTo(object? obj) =>
        obj switch
        {
            null => 1,
            PciAddress other => CompareTo(other),
            _ => throw new ArgumentException("Not a PCI address.", nameof(obj)),
        };

    /// <summary>sysfs's form, <c>0000:21:00.0</c>.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Domain:x4}:{Bus:x2}:{Slot:x2}.{Function:x1}");

    /// <summary>Whether the left address sorts before the right.</summary>
    public static bool operator <(PciAddress left, PciAddress right) => left._bits < right._bits;

    /// <summary>Whether the left address sorts after the right.</summary>
    public static bool operator >(PciAddress left, PciAddress right) => left._bits > right._bits;

    /// <summary>Whether the left address sorts before the right or is the same.</summary>
    public static bool operator <=(PciAddress left, PciAddress right) => left._bits <= right._bits;

    /// <summary>Whether the left address sorts after the right or is the same.</summary>
    public static bool operator >=(PciAddress left, PciAddress right) => left._bits >= right._bits;
}
