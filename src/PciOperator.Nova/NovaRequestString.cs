using System.Text;
using PciOperator.Core;

namespace PciOperator.Nova;

/// <summary>One item of a flavor's <c>pci_passthrough:alias</c>.</summary>
/// <param name="Alias">The alias' name.</param>
/// <param name="Count">How many, at least 1.</param>
public readonly record struct NovaRequest(string Alias, long Count);

/// <summary>A flavor's <c>pci_passthrough:alias</c>, <c>"a1:2,a2:1"</c>, and its NUMA policy.</summary>
public static class NovaRequestString
{
    // Python's int() takes no more.
    private const int MostDigits = 4300;

    /// <summary>
    /// Parses the text as Nova's API does: <c>name:count</c>, separated by commas; blanks go around a comma and inside a name,
    /// nowhere else. Names are trimmed; repetitions stay separate requests.
    /// </summary>
    /// <exception cref="SpecFormatException">The text is not that, or a count is 0 (which Nova takes, and then sometimes
    /// fails).</exception>
    public static IReadOnlyList<NovaRequest> Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return [.. Items(text)];
    }

    /// <summary>Parses and resolves item by item, so that of several errors the first in the text is named, as in Nova.</summary>
    /// <exception cref="SpecFormatException">As of <see cref="Parse"/> and
    /// <see cref="Resolve(IEnumerable{NovaRequest}, IReadOnlyDictionary{string, AliasDefinition})"/>.</exception>
    public static IReadOnlyList<DeviceRequest> Resolve(string text, IReadOnlyDictionary<string, AliasDefinition> aliases)
    {
        ArgumentNullException.ThrowIfNull(text);
        return Resolve(Items(text), aliases);
    }

    /// <summary>The requests of a claim: names <c>r1</c>, <c>r2</c>, … in the order of the text.</summary>
    /// <param name="requests">Parsed requests.</param>
    /// <param name="aliases">All aliases, by name; names are case-sensitive.</param>
    /// <exception cref="SpecFormatException">An alias is not defined.</exception>
    public static IReadOnlyList<DeviceRequest> Resolve(
        IEnumerable<NovaRequest> requests,
        IReadOnlyDictionary<string, AliasDefinition> aliases
    )
    {
        ArgumentNullException.ThrowIfNull(requests);
        ArgumentNullException.ThrowIfNull(aliases);
        var resolved = new List<DeviceRequest>();
        foreach (NovaRequest request in requests)
        {
            if (!aliases.TryGetValue(request.Alias, out AliasDefinition? alias))
                throw new SpecFormatException("alias", $"PCI alias '{Text.Shorten(request.Alias)}' is not defined.");
            resolved.Add(
                new DeviceRequest
                {
                    Name = $"r{resolved.Count + 1}",
                    Alias = alias,
                    Count = (int)Math.Min(request.Count, int.MaxValue),
                }
            );
        }

        return resolved;
    }

    /// <summary>
    /// The policy of a flavor (<c>hw:pci_numa_affinity_policy</c>) and image (<c>hw_pci_numa_affinity_policy</c>); null: the aliases' own.
    /// An empty one of the flavor is none, as in Nova.
    /// </summary>
    /// <exception cref="SpecFormatException">One is no policy, or the two differ.</exception>
    public static NumaPolicy? EffectivePolicy(string? flavor, string? image)
    {
        NumaPolicy? ofFlavor = string.IsNullOrEmpty(flavor) ? null : Policy(flavor);
        NumaPolicy? ofImage = Policy(image);
        if (ofFlavor is { } a && ofImage is { } b && a != b)
        {
            throw new SpecFormatException(
                "numa_policy",
                $"The flavor asks for NUMA policy {a.ToNova()} and the image for {b.ToNova()}; they must be the same, or one of them left out."
            );
        }

        return ofFlavor ?? ofImage;
    }

    private static IEnumerable<NovaRequest> Items(string text)
    {
        for (int from = 0; ; )
        {
            int comma = text.IndexOf(',', from);
            yield return ParseItem(comma < 0 ? text.AsSpan(from) : text.AsSpan(from, comma - from), last: comma < 0, text);
            if (comma < 0)
                yield break;
            from = comma + 1;
        }
    }

    private static NumaPolicy? Policy(string? text) =>
        text is null ? null
        : NovaWords.TryParseNumaPolicy(text, out NumaPolicy policy) ? policy
        : throw new SpecFormatException(
            "numa_policy",
            $"NUMA policy '{Text.Shorten(text)}' is none; expected required, socket, preferred or legacy."
        );

    private static NovaRequest ParseItem(ReadOnlySpan<char> item, bool last, string text)
    {
        int colon = item.IndexOf(':');
        if (colon <= 0 || item[(colon + 1)..].Contains(':'))
            throw Bad(text, item);
        ReadOnlySpan<char> digits = item[(colon + 1)..];
        if (!last)
            digits = Text.StripEnd(digits);
        if (digits.Length is 0 or > MostDigits)
            throw Bad(text, item);
        long count = 0;
        foreach (Rune c in digits.EnumerateRunes())
        {
            if (!Rune.IsDigit(c))
                throw Bad(text, item);
            // Beyond any host's devices the number does not matter.
            count = count > long.MaxValue / 100 ? long.MaxValue / 100 : (count * 10) + (int)Rune.GetNumericValue(c);
        }

        if (count == 0)
            throw new SpecFormatException("count", $"The count in '{Text.Shorten(item)}' is 0; ask for 1 or more, or leave the alias out.");
        return new NovaRequest(Text.Strip(item[..colon]).ToString(), count);
    }

    private static SpecFormatException Bad(string text, ReadOnlySpan<char> item) =>
        new("request", $"'{Text.Shorten(item)}' in '{Text.Shorten(text)}' is not alias:count; expected for example a1:2,a2:1.");
}
