using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

public sealed partial record NamespaceSelector : IHasCelRules<NamespaceSelector>
{
    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<NamespaceSelector>> Rules { get; } =
    [FieldRule.Labels<NamespaceSelector>("matchLabels", s => s.MatchLabels, "namespaces")];
}

public sealed partial record LabelRequirement : IHasCelRules<LabelRequirement>
{
    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<LabelRequirement>> Rules { get; } =
    [
        FieldRule.Matches<LabelRequirement>(
            "key",
            r => r.Key,
            FieldRule.LabelKey,
            "key is a label's key, such as team or example.com/tier: the value goes into values"
        ),
        new(
            "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
            "operator In and NotIn compare with values: give at least one, or use Exists or DoesNotExist",
            r => r.Operator is not (LabelOperator.In or LabelOperator.NotIn) || r.Values is { Count: > 0 }
        )
        {
            FieldPath = ".values",
        },
        new(
            "self.operator in ['In', 'NotIn'] || !has(self.values) || size(self.values) == 0",
            "operator Exists and DoesNotExist look at no value: leave values out, or use In or NotIn",
            r => r.Operator is LabelOperator.In or LabelOperator.NotIn || r.Values is not { Count: > 0 }
        )
        {
            FieldPath = ".values",
        },
        FieldRule.AllMatch<LabelRequirement>(
            "values",
            r => r.Values,
            FieldRule.LabelValue,
            "values holds values of a label: at most 63 letters, digits, '-', '_' and '.' that begin and end with a letter or digit"
        ),
    ];
}
