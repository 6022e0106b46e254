using System.Text.RegularExpressions;
using PciOperator.Core;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

public sealed partial record PciQuotaSpec : IHasCelRules<PciQuotaSpec>
{
    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<PciQuotaSpec>> Rules { get; } =
    [
        FieldRule.AllMatch<PciQuotaSpec>(
            "namespaces",
            s => s.Namespaces,
            "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            "namespaces holds names of namespaces, such as team-a; labels go into namespaceSelector"
        ),
    ];
}

public sealed partial record QuotaLimit : IHasCelRules<QuotaLimit>
{
    private static readonly Regex ObjectName = FieldRule.Compile(FieldRule.DnsSubdomain);

    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<QuotaLimit>> Rules { get; } =
    [
        new(
            $"self.alias == '{DeviceCounts.All}' || self.alias.matches(r'{FieldRule.DnsSubdomain}')",
            "alias is a PciAlias' name, such as nv2080, or * for the devices of all aliases together",
            l => l.Alias == DeviceCounts.All || ObjectName.IsMatch(l.Alias)
        )
        {
            FieldPath = ".alias",
        },
    ];
}
