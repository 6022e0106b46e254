using System.Text.Json;
using PciOperator.Core;

namespace PciOperator.Nova;

/// <summary>One of Nova's device specs: what it says, and the rule that comes of it.</summary>
/// <param name="Fields">The selector, as written.</param>
/// <param name="Rule">The rule.</param>
public sealed record NovaDeviceSpecEntry(DeviceSelectorFields Fields, DeviceRule Rule);

/// <summary>Nova's <c>[pci]device_spec</c> (once <c>passthrough_whitelist</c>): a JSON object, or a list of them, for each value.</summary>
public static class NovaDeviceSpec
{
    private static readonly Dictionary<string, string> NovaNames = new(StringComparer.Ordinal)
    {
        ["vendorId"] = "vendor_id",
        ["productId"] = "product_id",
        ["deviceName"] = "devname",
        ["addressPattern"] = "address",
    };

    /// <summary>Parses one value.</summary>
    /// <param name="text">JSON.</param>
    /// <param name="name">The name of the rules; a list's further ones get a number.</param>
    /// <returns>One rule for each object, in order: the first that matches a device wins.</returns>
    /// <exception cref="SpecFormatException">What is wrong, by Nova's name of the field.</exception>
    public static IReadOnlyList<DeviceRule> Parse(string text, string name = "device_spec") => [.. Read(text, name).Select(e => e.Rule)];

    /// <summary>The same, with what is written.</summary>
    /// <inheritdoc cref="Parse"/>
    public static IReadOnlyList<NovaDeviceSpecEntry> Read(string text, string name = "device_spec")
    {
        ArgumentNullException.ThrowIfNull(text);
        using JsonDocument json = NovaJson.Parse("device_spec", text);
        if (json.RootElement.ValueKind == JsonValueKind.Object)
            return [ParseOne(json.RootElement, name)];
        if (json.RootElement.ValueKind != JsonValueKind.Array)
            throw new SpecFormatException("device_spec", $"'{Text.Shorten(text)}' is neither a JSON object nor a list of them.");
        var rules = new List<NovaDeviceSpecEntry>();
        foreach (JsonElement item in json.RootElement.EnumerateArray())
            rules.Add(ParseOne(item, rules.Count == 0 ? name : $"{name}-{rules.Count + 1}"));
        return rules;
    }

    /// <summary>
    /// What can only be checked on the host: a spec of remote-managed devices must name a network interface that is there,
    /// and of a PF it must mean the VFs (by the product id that they have).
    /// </summary>
    /// <exception cref="SpecFormatException">What is wrong, by Nova's name of the field.</exception>
    public static void CheckOnHost(DeviceRule rule, IReadOnlyList<PciFunction> host)
    {
        ArgumentNullException.ThrowIfNull(rule);
        ArgumentNullException.ThrowIfNull(host);
        if (!rule.Tags.RemoteManaged)
            return;
        foreach (DeviceSelector selector in rule.Selectors)
        {
            PciFunction? named =
                selector.DeviceName is { } netDevice
                    ? host.FirstOrDefault(f => f.NetDevice == netDevice)
                        ?? throw new SpecFormatException(
                            "devname",
                            $"devname {netDevice} of a remote-managed device is no network interface of this host."
                        )
                : selector.FullAddress is { } address ? host.FirstOrDefault(f => f.Address == address)
                : null;
            if (named is not { Type: DeviceType.Pf, SriovTotalVfs: > 0 })
                continue;
            if (selector.VendorId is { } vendor && vendor != named.VendorId)
                throw new SpecFormatException("vendor_id", $"vendor_id {vendor} is not that of the PF {named.Address}, {named.VendorId}.");
            PciId? ofVfs = named.VfProductId ?? host.FirstOrDefault(f => f.IsVirtual && f.ParentAddress == named.Address)?.ProductId;
            if (selector.IdsOfNone)
                throw new SpecFormatException("product_id", $"A negative id is not that of the VFs of {named.Address}.");
            if (selector.ProductId is { } product && product == ofVfs)
                continue;
            if (selector.ProductId is null || selector.ProductId == named.ProductId)
            {
                throw new SpecFormatException(
                    "product_id",
                    $"A PF can't be remote-managed, only its VFs; give the product_id of the VFs of {named.Address}{(named.VfProductId is { } id ? $", {id}" : "")}."
                );
            }

            if (ofVfs is { } vfs)
            {
                throw new SpecFormatException(
                    "product_id",
                    $"product_id {selector.ProductId} is not that of the VFs of {named.Address}, {vfs}."
                );
            }
        }
    }

    private static NovaDeviceSpecEntry ParseOne(JsonElement value, string name)
    {
        Dictionary<string, JsonElement> members = NovaJson.Members("device_spec", value);
        // Field by field, so that of several bad ones the one is named that Nova names.
        var fields = new DeviceSelectorFields
        {
            VendorId = NovaJson.TextOf("vendor_id", members) is { } vendor ? Text.Strip(vendor).ToString() : null,
        };
        _ = Selector(fields);
        fields = fields with { ProductId = NovaJson.TextOf("product_id", members) };
        _ = Selector(fields);
        // A devname that is no text names no interface: Nova looks for a file of that name.
        if (members.TryGetValue("devname", out JsonElement device) && !NovaJson.IsEmpty(device))
            fields = fields with { DeviceName = Plain(device) };
        if (members.TryGetValue("address", out JsonElement address) && !NovaJson.IsEmpty(address))
        {
            if (fields.DeviceName is not null)
                throw new SpecFormatException("devname", "devname and address both say where the device is; give one of them.");
            fields = address.ValueKind switch
            {
                JsonValueKind.String => fields with { Address = address.GetString() },
                JsonValueKind.Object => fields with { AddressPattern = Pattern(address) },
                _ => throw new SpecFormatException(
                    "address",
                    $"address {Text.Shorten(address.GetRawText())} is neither text nor an object of regular expressions."
                ),
            };
        }

        return new NovaDeviceSpecEntry(
            fields,
            new DeviceRule
            {
                Name = name,
                Selectors = [Selector(fields)],
                Tags = Tags(members),
            }
        );
    }

    private static DeviceSelector Selector(DeviceSelectorFields fields)
    {
        try
        {
            return DeviceSelector.ParseAsNova(fields);
        }
        catch (SpecFormatException e)
        {
            string field = NovaNames.GetValueOrDefault(e.Field, e.Field);
            throw new SpecFormatException(field, e.Message.Replace(e.Field, field, StringComparison.Ordinal), e);
        }
    }

    private static AddressPatternFields Pattern(JsonElement value)
    {
        Dictionary<string, JsonElement> members = NovaJson.Members("address", value);
        string? Part(string name) =>
            members.TryGetValue(name, out JsonElement part)
                ? part.ValueKind == JsonValueKind.String
                    ? part.GetString()
                    : throw new SpecFormatException(
                        "address",
                        $"address: {name} {Text.Shorten(part.GetRawText())} is not a regular expression; write it in quotes."
                    )
                : null;
        return new AddressPatternFields(Part("domain"), Part("bus"), Part("slot"), Part("function"));
    }

    private static DeviceTags Tags(Dictionary<string, JsonElement> members)
    {
        DeviceTags tags = DeviceTags.None;
        var others = new SortedDictionary<string, string>(StringComparer.Ordinal);
        // Of several bad ones, the first in this order is named.
        foreach (string key in (ReadOnlySpan<string>)["managed", "live_migratable", "one_time_use"])
        {
            if (members.TryGetValue(key, out JsonElement value) && value.ValueKind != JsonValueKind.Null)
                _ = NovaBoolean.Strict(key, value);
        }

        foreach ((string key, JsonElement value) in members)
        {
            // A null tag is no tag.
            if (key is "vendor_id" or "product_id" or "address" or "devname" || value.ValueKind == JsonValueKind.Null)
                continue;
            switch (key)
            {
                case "physical_network":
                    tags = tags with { PhysicalNetwork = Plain(value) };
                    break;
                case "trusted":
                    tags = tags with { Trusted = NovaBoolean.Lenient(value) };
                    break;
                case "remote_managed":
                    tags = tags with { RemoteManaged = NovaBoolean.Lenient(value) };
                    break;
                case "managed":
                    tags = tags with { Managed = NovaBoolean.Strict(key, value) };
                    break;
                case "live_migratable":
                    tags = tags with { LiveMigratable = NovaBoolean.Strict(key, value) };
                    break;
                case "one_time_use":
                    tags = tags with { OneTimeUse = NovaBoolean.Strict(key, value) };
                    break;
                case "resource_class":
                    tags = tags with { ResourceClass = Plain(value) };
                    break;
                case "traits":
                    tags = tags with { Traits = Trait.ParseList(Plain(value)) };
                    break;
                default:
                    others[key] = Plain(value);
                    break;
            }
        }

        return others.Count == 0 ? tags : tags with { Other = others };
    }

    private static string Plain(JsonElement value) => value.ValueKind == JsonValueKind.String ? value.GetString()! : value.GetRawText();
}
