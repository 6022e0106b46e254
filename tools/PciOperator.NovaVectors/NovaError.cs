using System.Text.Json;
using System.Text.RegularExpressions;

namespace PciOperator.NovaVectors;

/// <summary>An error of Nova's, and the fields that it can be about.</summary>
public sealed record NovaError(string Class, string Message)
{
    private static readonly (string Pattern, string[] Fields)[] Kinds =
    [
        (@"property (vendor_id|product_id) \(", ["$1"]),
        (@"property (domain|bus|slot|func) \(", ["address"]),
        ("^PciDeviceWrongAddressFormat", ["address"]),
        (@"Cannot parse tag '(\w+)'", ["$1"]),
        ("one_time_use=true requires", ["one_time_use"]),
        ("^PciDeviceInvalidDeviceName", ["devname"]),
        ("^PciDeviceRemoteManagedNotPresent", ["devname"]),
        ("^PciDeviceInvalidPFRemoteManaged", ["product_id"]),
        ("Invalid entry:", ["device_spec"]),
        ("^TypeError: int\\(\\)", ["vendor_id", "product_id"]),
        ("^TypeError: first argument must be string", ["address"]),
        ("^AttributeError", ["vendor_id", "product_id", "devname", "address"]),
        (@"does not match '\^\(\[", ["vendor_id", "product_id"]),
        ("'name' is a required property", ["name"]),
        ("is not of type 'object'", ["alias"]),
        (
            "is not of type 'string'",
            [
                "name",
                "vendor_id",
                "product_id",
                "device_type",
                "numa_policy",
                "capability_type",
                "resource_class",
                "traits",
                "live_migratable",
            ]
        ),
        (@"is not one of \['pci'\]", ["capability_type"]),
        (@"is not one of \['type-PCI'", ["device_type"]),
        (@"is not one of \['required'", ["numa_policy"]),
        ("Invalid PCI alias definition: Unrecognized value", ["live_migratable"]),
        ("should be non-empty|is too short|is too long", ["name"]),
        (@"Additional properties are not allowed \((.*)\)", ["*"]),
        ("NUMA policy mismatch", ["numa_policy"]),
        ("Device type mismatch|: 'dev_type'$", ["device_type"]),
        ("^PciInvalidAlias: Invalid PCI alias definition: (Expecting|Extra data|Invalid control|Unterminated|Invalid \\\\)", ["alias"]),
        ("^PciInvalidAlias.*(vendor_id|product_id)", ["vendor_id", "product_id"]),
        ("^PciRequestAliasNotDefined", ["alias"]),
        ("^(ImagePCINUMAPolicyForbidden|InvalidPCINUMAAffinity)", ["numa_policy"]),
        ("^ValueError: Field value .* is invalid", ["numa_policy"]),
        ("^ValueError", ["request", "count"]),
        ("^ValidationError", ["request", "count"]),
    ];

    public static NovaError? Of(JsonElement answer, string name) =>
        answer.TryGetProperty(name, out JsonElement e) && e.ValueKind == JsonValueKind.Object
            ? new NovaError(e.GetProperty("class").GetString()!, e.GetProperty("message").GetString()!)
            : null;

    /// <summary>Whether an error of ours about this field is about the same; an error of an unknown kind is about any.</summary>
    public bool IsAbout(string field)
    {
        foreach ((string pattern, string[] fields) in Kinds)
        {
            Match match = Regex.Match(ToString(), pattern);
            if (!match.Success)
                continue;
            if (fields[0] == "*")
                return match.Groups[1].Value.Contains($"'{field}'", StringComparison.Ordinal);
            return fields[0] == "$1" ? match.Groups[1].Value == field : fields.Contains(field);
        }

        return true;
    }

    public override string ToString() => $"{Class}: {Message}";
}
