using System.Text.RegularExpressions;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

/// <summary>Rules about one text field, said instead of a schema's <c>pattern</c> so that the refusal is a sentence.</summary>
internal static class FieldRule
{
    /// <summary>The name of an object: DNS labels joined by dots (RFC 1123).</summary>
    internal const string DnsSubdomain = @"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

    /// <summary>A label's key, with an optional prefix.</summary>
    internal const string LabelKey =
        @"^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";

    /// <summary>A label's value, or nothing.</summary>
    internal const string LabelValue = @"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";

    /// <summary>The field is absent or matches.</summary>
    /// <param name="field">The field's JSON name.</param>
    /// <param name="value">The field.</param>
    /// <param name="pattern">A regular expression in the syntax that RE2 and .NET share; <c>$</c> is the end of the text.</param>
    /// <param name="message">What is wrong and what would be right.</param>
    internal static CelRule<T> Matches<T>(string field, Func<T, string?> value, string pattern, string message)
        where T : class
    {
        Regex regex = Compile(pattern);
        return new(
            $"!has(self.{field}) || self.{field}.matches(r'{pattern}')",
            message,
            self => value(self) is not { } text || regex.IsMatch(text)
        )
        {
            FieldPath = "." + field,
        };
    }

    /// <summary>The list is absent or every item matches.</summary>
    internal static CelRule<T> AllMatch<T>(string field, Func<T, IReadOnlyList<string>?> value, string pattern, string message)
        where T : class
    {
        Regex regex = Compile(pattern);
        return new(
            $"!has(self.{field}) || self.{field}.all(x, x.matches(r'{pattern}'))",
            message,
            self => value(self)?.All(regex.IsMatch) ?? true
        )
        {
            FieldPath = "." + field,
        };
    }

    /// <summary>The map is absent or holds labels.</summary>
    /// <param name="field">The field's JSON name.</param>
    /// <param name="value">The field.</param>
    /// <param name="of">What has the labels.</param>
    internal static CelRule<T> Labels<T>(string field, Func<T, IReadOnlyDictionary<string, string>?> value, string of = "nodes")
        where T : class
    {
        (Regex? keys, Regex? values) = (Compile(LabelKey), Compile(LabelValue));
        return new(
            $"!has(self.{field}) || self.{field}.all(k, k.matches(r'{LabelKey}') && self.{field}[k].matches(r'{LabelValue}'))",
            $"{field} holds labels of {of}: a key such as {(of == "nodes" ? "topology.kubernetes.io/zone" : "example.com/team")}, and a value of at most 63 letters, digits, '-', '_' and '.' that begins and ends with a letter or digit",
            self => value(self)?.All(label => keys.IsMatch(label.Key) && values.IsMatch(label.Value)) ?? true
        )
        {
            FieldPath = "." + field,
        };
    }

    /// <summary>The text compiles as RE2's regular expression; what only other engines know is left to them.</summary>
    internal static CelRule<T> IsRegularExpression<T>(string field, Func<T, string?> value, string message)
        where T : class
    {
        string self = "self." + Name(field);
        // An expression that does not compile is an error of the rule, and the server reports it with this message.
        return new(
            $@"!has({self}) || {self}.contains('(?') || {self}.contains('\\') || ('0'.matches({self}) ? true : true)",
            message,
            record =>
                value(record) is not { } text || text.Contains("(?", StringComparison.Ordinal) || text.Contains('\\') || Compiles(text)
        );
    }

    /// <summary>A field's name in CEL, where some words are the language's own.</summary>
    internal static string Name(string field) => field is "function" or "namespace" ? $"__{field}__" : field;

    /// <summary>A compiled pattern in which <c>$</c> is the end of the text, as in RE2, and not also before a last newline.</summary>
    internal static Regex Compile(string pattern) =>
        new(pattern.EndsWith('$') ? pattern[..^1] + @"\z" : pattern, RegexOptions.CultureInvariant | RegexOptions.NonBacktracking);

    private static bool Compiles(string pattern)
    {
        try
        {
            _ = new Regex(pattern, RegexOptions.CultureInvariant);
            return true;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }
}
