using System.Text;
using System.Text.Json;
using PciOperator.Core;

namespace PciOperator.Nova;

/// <summary>One of Nova's <c>[pci]alias</c> values. Values of one name together are an any-of alias.</summary>
public sealed record NovaAlias
{
    /// <summary>The name, without blanks around.</summary>
    public required string Name { get; init; }

    /// <summary>The vendor id, as written.</summary>
    public string? VendorId { get; init; }

    /// <summary>The product id, as written.</summary>
    public string? ProductId { get; init; }

    /// <summary>The kind; null: not said.</summary>
    public DeviceType? DeviceType { get; init; }

    /// <summary>Always <c>pci</c> when said; it means nothing. (In Nova such an alias matches no pool.)</summary>
    public string? CapabilityType { get; init; }

    /// <summary>The NUMA policy; legacy when not said.</summary>
    public NumaPolicy NumaPolicy { get; init; }

    /// <summary>Whether only devices tagged so, or only devices tagged not so; null: any.</summary>
    public bool? LiveMigratable { get; init; }

    /// <summary>The resource class, as written. Nova's own matching leaves it to Placement.</summary>
    public string? ResourceClass { get; init; }

    /// <summary>The traits, as written. Nova's own matching leaves them to Placement.</summary>
    public string? Traits { get; init; }

    /// <summary>Parses one value.</summary>
    /// <exception cref="SpecFormatException">What is wrong, by Nova's name of the field.</exception>
    public static NovaAlias Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        using JsonDocument json = NovaJson.Parse("alias", text);
        Dictionary<string, JsonElement> members = NovaJson.Members("alias", json.RootElement);
        foreach (string key in members.Keys)
        {
            if (
                key
                is not (
                    "name"
                    or "vendor_id"
                    or "product_id"
                    or "device_type"
                    or "numa_policy"
                    or "capability_type"
                    or "resource_class"
                    or "traits"
                    or "live_migratable"
                )
            )
            {
                throw new SpecFormatException(Text.Shorten(key), $"An alias has no field '{Text.Shorten(key)}'.");
            }
        }

        if (!members.ContainsKey("name"))
            throw new SpecFormatException("name", "An alias needs a name.");
        // Of several bad fields the one is named that Nova names: the last by name.
        string? vendor = Id("vendor_id", members);
        string? traits = NovaJson.TextOf("traits", members);
        string? resourceClass = NovaJson.TextOf("resource_class", members);
        string? product = Id("product_id", members);
        NumaPolicy policy = NumaPolicy.Legacy;
        if (NovaJson.TextOf("numa_policy", members) is { } policyText && !NovaWords.TryParseNumaPolicy(policyText, out policy))
        {
            throw new SpecFormatException(
                "numa_policy",
                $"numa_policy '{Text.Shorten(policyText)}' is none; expected required, socket, preferred or legacy."
            );
        }

        string name = NovaJson.TextOf("name", members)!;
        int length = name.EnumerateRunes().Count();
        if (length is 0 or > 256)
            throw new SpecFormatException("name", $"An alias' name has 1 to 256 characters, not {length}.");
        _ = NovaJson.TextOf("live_migratable", members);
        DeviceType? type = null;
        if (NovaJson.TextOf("device_type", members) is { } typeText)
        {
            type =
                NovaWords.TryParseDeviceType(typeText, out DeviceType parsed) && parsed != Core.DeviceType.Vdpa
                    ? parsed
                    : throw new SpecFormatException(
                        "device_type",
                        $"device_type '{Text.Shorten(typeText)}' is none; expected type-PCI, type-PF or type-VF."
                    );
        }

        string? capability = NovaJson.TextOf("capability_type", members);
        if (capability is not (null or "pci"))
            throw new SpecFormatException("capability_type", $"capability_type '{Text.Shorten(capability)}' is not pci, the only one.");
        bool? live = null;
        if (members.TryGetValue("live_migratable", out JsonElement liveValue))
            live = NovaBoolean.Strict("live_migratable", liveValue);
        return new NovaAlias
        {
            Name = Text.Strip(name).ToString(),
            VendorId = vendor,
            ProductId = product,
            DeviceType = type,
            CapabilityType = capability,
            NumaPolicy = policy,
            LiveMigratable = live,
            ResourceClass = resourceClass,
            Traits = traits,
        };
    }

    /// <summary>Joins the values of each name.</summary>
    /// <returns>The aliases by name.</returns>
    /// <exception cref="SpecFormatException">Values of one name differ in policy or kind, or, more than one, don't say their kind; or a
    /// value has neither both ids nor a resource class.</exception>
    /// <remarks>
    /// With both ids given, resource class and traits play no part, as in Nova without Placement; without, they are what is asked for.
    /// </remarks>
    public static IReadOnlyDictionary<string, AliasDefinition> Join(IEnumerable<NovaAlias> values)
    {
        ArgumentNullException.ThrowIfNull(values);
        var aliases = new Dictionary<string, AliasDefinition>(StringComparer.Ordinal);
        var first = new Dictionary<string, NovaAlias>(StringComparer.Ordinal);
        var all = new List<NovaAlias>();
        foreach (NovaAlias value in values)
        {
            all.Add(value);
            if (!first.TryGetValue(value.Name, out NovaAlias? other))
            {
                first[value.Name] = value;
                aliases[value.Name] = new AliasDefinition
                {
                    Name = value.Name,
                    AnyOf = [.. value.Selectors()],
                    NumaPolicy = value.NumaPolicy,
                };
                continue;
            }

            if (value.NumaPolicy != other.NumaPolicy)
            {
                throw new SpecFormatException(
                    "numa_policy",
                    $"Alias {value.Name} is given with numa_policy {other.NumaPolicy.ToNova()} and {value.NumaPolicy.ToNova()}; an alias has one."
                );
            }

            if (value.DeviceType is null || other.DeviceType is null)
            {
                throw new SpecFormatException(
                    "device_type",
                    $"Alias {value.Name} is given more than once; then each must say its device_type."
                );
            }

            if (value.DeviceType != other.DeviceType)
            {
                throw new SpecFormatException(
                    "device_type",
                    $"Alias {value.Name} is given with device_type {other.DeviceType.Value.ToNova()} and {value.DeviceType.Value.ToNova()}; here an alias has one."
                );
            }

            aliases[value.Name] = aliases[value.Name] with { AnyOf = [.. aliases[value.Name].AnyOf, .. value.Selectors()] };
        }

        foreach (NovaAlias value in all)
        {
            if ((value.VendorId is null || value.ProductId is null) && value.ResourceClass is null)
            {
                throw new SpecFormatException(
                    value.VendorId is null ? "vendor_id" : "product_id",
                    $"Alias {Text.Shorten(value.Name)} needs vendor_id and product_id, or a resource_class."
                );
            }
        }

        return aliases;
    }

    // What it describes; nothing when an id has what Nova's schema lets through and no device has: a line break, digits of other scripts.
    private IEnumerable<AliasSelector> Selectors() => OfNone(VendorId) || OfNone(ProductId) ? [] : [ToSelector()];

    private static bool OfNone(string? id) => id is not null && !id.All(char.IsAsciiHexDigit);

    private AliasSelector ToSelector()
    {
        bool ids = VendorId is not null && ProductId is not null;
        return new AliasSelector
        {
            VendorId = VendorId is null ? null : PciId.Parse(VendorId),
            ProductId = ProductId is null ? null : PciId.Parse(ProductId),
            Type = DeviceType,
            LiveMigratable = LiveMigratable,
            ResourceClass = ids ? null : ResourceClass,
            Traits = ids || Traits is null ? [] : Trait.ParseList(Traits),
        };
    }

    private static string? Id(string field, Dictionary<string, JsonElement> members)
    {
        string? text = NovaJson.TextOf(field, members);
        if (text is null)
            return null;
        // $ in Python's expressions matches before a last line break, too, and \d any script's decimal digits.
        ReadOnlySpan<char> digits = text.EndsWith('\n') ? text.AsSpan(..^1) : text;
        int length = 0;
        bool ok = true;
        foreach (Rune c in digits.EnumerateRunes())
        {
            ok &= Hex.IsDigitAsNova(c);
            length++;
        }

        return ok && length == 4
            ? text
            : throw new SpecFormatException(field, $"{field} '{Text.Shorten(text)}' is not four hexadecimal digits, for example 8086.");
    }
}
