using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

/// <summary>Labels of namespaces, with the meaning of Kubernetes' own label selectors: all parts must hold, and no part selects every namespace.</summary>
public sealed partial record NamespaceSelector
{
    /// <summary>Labels that the namespace must have. Every namespace has `kubernetes.io/metadata.name`, which is its name.</summary>
    [Items(0, 32), Length(0, 63)]
    public IReadOnlyDictionary<string, string>? MatchLabels { get; set; }

    /// <summary>Conditions on labels of the namespace.</summary>
    [Items(0, 16)]
    public IReadOnlyList<LabelRequirement>? MatchExpressions { get; set; }

    /// <summary>Whether a namespace's labels are selected.</summary>
    /// <param name="labels">The labels; null: it has none.</param>
    public bool Matches(IDictionary<string, string>? labels) =>
        (MatchLabels ?? new Dictionary<string, string>()).All(l => Value(labels, l.Key) == l.Value)
        && (MatchExpressions ?? []).All(r => r.Holds(Value(labels, r.Key)));

    private static string? Value(IDictionary<string, string>? labels, string key) =>
        labels is not null && labels.TryGetValue(key, out string? value) ? value : null;
}

/// <summary>A condition on one label.</summary>
public sealed partial record LabelRequirement
{
    /// <summary>The label's key.</summary>
    [Required, Length(1, 317)]
    public string Key { get; set; } = "";

    /// <summary>`In` and `NotIn` ask for its value, `Exists` and `DoesNotExist` whether it is there. `NotIn` also holds where it is not.</summary>
    [Required]
    public LabelOperator Operator { get; set; }

    /// <summary>The values, for `In` and `NotIn`.</summary>
    [Items(0, 32), Length(0, 63), ListSet]
    public IReadOnlyList<string>? Values { get; set; }

    /// <summary>Whether the condition holds for the value of its label.</summary>
    /// <param name="value">The value; null: there is no such label.</param>
    public bool Holds(string? value) =>
        Operator switch
        {
            LabelOperator.In => value is not null && (Values ?? []).Contains(value),
            LabelOperator.NotIn => value is null || !(Values ?? []).Contains(value),
            LabelOperator.Exists => value is not null,
            _ => value is null,
        };
}

/// <summary>How a label is looked at.</summary>
public enum LabelOperator
{
    /// <summary>It is there and has one of the values.</summary>
    In,

    /// <summary>It has none of the values, or is not there.</summary>
    NotIn,

    /// <summary>It is there.</summary>
    Exists,

    /// <summary>It is not there.</summary>
    DoesNotExist,
}
