using System.Diagnostics.CodeAnalysis;

namespace PciOperator.Core;

/// <summary>A PCI vendor or device id: 16 bits, written as four lower-case hexadecimal digits (<c>8086</c>).</summary>
/// <param name="Value">0 to ffff.</param>
public readonly record struct PciId(ushort Value) : IComparable<PciId>, ISpanParsable<PciId>
{
    /// <summary>
    /// Parses an id in any of Nova's spellings: either case, an optional 0x, fewer digits (<c>86</c> is <c>0086</c>), blanks around.
    /// </summary>
    /// <exception cref="FormatException">The text is not a hexadecimal number of at most 16 bits.</exception>
    public static PciId Parse(string s) => Parse(s.AsSpan(), null);

    /// <inheritdoc cref="Parse(string)"/>
    public static PciId Parse(string s, IFormatProvider? provider) => Parse(s.AsSpan(), provider);

    /// <inheritdoc cref="Parse(string)"/>
    public static PciId Parse(ReadOnlySpan<char> s, IFormatProvider? provider) =>
        TryParse(s, provider, out PciId id)
            ? id
            : throw new FormatException(
                $"'{Text.Shorten(s)}' is not a PCI id; expected a hexadecimal number of at most four digits, for example 8086."
            );

    /// <summary>Parses an id in any of Nova's spellings; false when the text is none.</summary>
    public static bool TryParse([NotNullWhen(true)] string? s, out PciId result) => TryParse(s.AsSpan(), null, out result);

    /// <inheritdoc/>
    public static bool TryParse([NotNullWhen(true)] string? s, IFormatProvider? provider, out PciId result) =>
        TryParse(s.AsSpan(), provider, out result);

    /// <inheritdoc/>
    public static bool TryParse(ReadOnlySpan<char> s, IFormatProvider? provider, out PciId result)
    {
        bool ok = Hex.TryParseAsNova(s, out long value) && value is >= 0 and <= 0xffff;
        result = ok ? new PciId((ushort)value) : default;
        return ok;
    }

    /// <inheritdoc/>
    public int CompareTo(PciId other) => Value.CompareTo(other.Value);

    /// <summary>Four lower-case digits.</summary>
    public override string ToString() => Value.ToString("x4");

    /// <summary>Whether the left id is the smaller number.</summary>
    public static bool operator <(PciId left, PciId right) => left.Value < right.Value;

    /// <summary>Whether the left id is the larger number.</summary>
    public static bool operator >(PciId left, PciId right) => left.Value > right.Value;

    /// <summary>Whether the left id is the smaller number or the same.</summary>
    public static bool operator <=(PciId left, PciId right) => left.Value <= right.Value;

    /// <summary>Whether the left id is the larger number or the same.</summary>
    public static bool operator >=(PciId left, PciId right) => left.Value >= right.Value;
}
