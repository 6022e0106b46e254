namespace PciOperator.Kubernetes.Schema;

/// <summary>
/// One rule of a kind, said twice: in CEL for the API server (<c>x-kubernetes-validations</c>) and in C# for programs
/// that have no CEL. Contract tests hold the two against each other.
/// </summary>
/// <typeparam name="T">The record that the rule is about: <c>self</c>.</typeparam>
/// <param name="Rule">The CEL expression over <c>self</c> (and <c>oldSelf</c>).</param>
/// <param name="Message">What is wrong and what would be right.</param>
/// <param name="Holds">The same rule in C#: the new value, and the old one on an update (null on creation).</param>
public sealed record CelRule<T>(string Rule, string Message, Func<T, T?, bool> Holds)
    where T : class
{
    /// <summary>The field that the message is about, relative to <c>self</c>, such as <c>.address</c>.</summary>
    public string? FieldPath { get; init; }

    /// <summary>A rule over one value.</summary>
    public CelRule(string rule, string message, Func<T, bool> holds)
        : this(rule, message, (self, _) => holds(self)) { }
}

/// <summary>A record with rules that a schema alone can't say.</summary>
/// <typeparam name="TSelf">The record itself.</typeparam>
public interface IHasCelRules<TSelf>
    where TSelf : class, IHasCelRules<TSelf>
{
    /// <summary>The rules, in the order in which they are reported.</summary>
    static abstract IReadOnlyList<CelRule<TSelf>> Rules { get; }
}
