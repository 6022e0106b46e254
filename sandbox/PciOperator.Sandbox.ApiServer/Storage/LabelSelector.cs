using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Resources;

namespace PciOperator.Sandbox.ApiServer.Storage;

/// <summary>A label selector: <c>a=b,c!=d,e in (f,g),h notin (i),j,!k,l>5</c>, with the errors of apimachinery's parser.</summary>
internal sealed class LabelSelector
{
    private sealed record Requirement(string Key, string Operator, HashSet<string> Values);

    private readonly List<Requirement> _requirements = [];
    private readonly List<string> _tokens;
    private int _next;

    private LabelSelector(string text) => _tokens = Split(text);

    public bool IsEmpty => _requirements.Count == 0;

    /// <exception cref="ApiError">400: the text is no selector.</exception>
    public static LabelSelector Parse(string text)
    {
        var selector = new LabelSelector(text);
        selector.ParseAll();
        return selector;
    }

    public bool Matches(JsonObject? labels)
    {
        foreach (Requirement requirement in _requirements)
        {
            if (!Matches(labels.Str(requirement.Key), requirement))
                return false;
        }

        return true;
    }

    private static bool Matches(string? value, Requirement requirement) =>
        requirement.Operator switch
        {
            "exists" => value is not null,
            "!" => value is null,
            "in" => value is not null && requirement.Values.Contains(value),
            "notin" => value is null || !requirement.Values.Contains(value),
            ">" => long.TryParse(value, out long a) && a > long.Parse(requirement.Values.First()),
            _ => long.TryParse(value, out long b) && b < long.Parse(requirement.Values.First()),
        };

    private static List<string> Split(string text)
    {
        var tokens = new List<string>();
        for (int i = 0; i < text.Length; )
        {
            if (char.IsWhiteSpace(text[i]))
            {
                i++;
                continue;
            }

            int start = i;
            if ("=!<>(),".Contains(text[i], StringComparison.Ordinal))
            {
                i += text[i..].StartsWith("==", StringComparison.Ordinal) || text[i..].StartsWith("!=", StringComparison.Ordinal) ? 2 : 1;
            }
            else
            {
                while (i < text.Length && !char.IsWhiteSpace(text[i]) && !"=!<>(),".Contains(text[i], StringComparison.Ordinal))
                    i++;
            }

            tokens.Add(text[start..i]);
        }

        return tokens;
    }

    private string Peek => _next < _tokens.Count ? _tokens[_next] : "";

    private string Take() => _next < _tokens.Count ? _tokens[_next++] : "";

    private static bool IsIdentifier(string token) => token.Length > 0 && !"=!<>(),".Contains(token[0], StringComparison.Ordinal);

    private void ParseAll()
    {
        if (_tokens.Count == 0)
            return;
        while (true)
        {
            if (!IsIdentifier(Peek) && Peek != "!")
                throw ApiError.BadRequest($"found '{Peek}', expected: !, identifier, or 'end of string'");
            ParseRequirement();
            switch (Take())
            {
                case "":
                    return;
                case ",":
                    if (!IsIdentifier(Peek) && Peek != "!")
                        throw ApiError.BadRequest($"found '{Peek}', expected: identifier after ','");
                    break;
                case var other:
                    throw ApiError.BadRequest($"found '{other}', expected: ',' or 'end of string'");
            }
        }
    }

    private void ParseRequirement()
    {
        bool negated = Peek == "!";
        if (negated)
            Take();
        string key = Take();
        if (!IsIdentifier(key))
            throw Bad($"found '{key}', expected: identifier");
        if (MetadataRules.QualifiedNameError(key) is { } error)
            throw Bad($"<nil>: Invalid value: \"{key}\": {error}");
        if (negated || Peek is "" or ",")
        {
            _requirements.Add(new Requirement(key, negated ? "!" : "exists", []));
            return;
        }

        switch (Take())
        {
            case "in":
                Add(key, "in", Values());
                break;
            case "notin":
                Add(key, "notin", Values());
                break;
            case "=" or "==":
                Add(key, "in", [Value()]);
                break;
            case "!=":
                Add(key, "notin", [Value()]);
                break;
            case ">":
                AddComparison(key, ">");
                break;
            case "<":
                AddComparison(key, "<");
                break;
            case var other:
                throw Bad($"found '{other}', expected: in, notin, =, ==, !=, gt, lt");
        }
    }

    private string Value()
    {
        // Nothing after "=" is the empty value.
        if (Peek is "" or ",")
            return "";
        string value = Take();
        return IsIdentifier(value) ? value : throw Bad($"found '{value}', expected: identifier");
    }

    private List<string> Values()
    {
        if (Take() is var open && open != "(")
            throw Bad($"found '{open}' expected: '('");
        var values = new List<string>();
        while (true)
        {
            values.Add(Peek is "," or ")" ? "" : Take());
            switch (Take())
            {
                case ")":
                    return values;
                case ",":
                    break;
                case var other:
                    throw Bad($"found '{other}', expected: ',' or ')'");
            }
        }
    }

    private void AddComparison(string key, string op)
    {
        string value = Value();
        if (!long.TryParse(value, out _))
            throw Bad($"values[0]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer");
        _requirements.Add(new Requirement(key, op, [value]));
    }

    private void Add(string key, string op, List<string> values)
    {
        for (int i = 0; i < values.Count; i++)
        {
            if (MetadataRules.LabelValueError(values[i]) is { } error)
                throw Bad($"values[{i}][{key}]: Invalid value: \"{values[i]}\": {error}");
        }

        _requirements.Add(new Requirement(key, op, [.. values]));
    }

    private static ApiError Bad(string why) => ApiError.BadRequest("unable to parse requirement: " + why);
}
