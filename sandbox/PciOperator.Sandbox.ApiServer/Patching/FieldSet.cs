using System.Text.Json.Nodes;

namespace PciOperator.Sandbox.ApiServer.Patching;

/// <summary>
/// A set of field paths: a tree by path element, as fieldsV1 writes it (<c>f:name</c>, <c>k:{"name":"x"}</c>, <c>v:"x"</c>).
/// Operations give new sets.
/// </summary>
internal sealed class FieldSet
{
    private static readonly SortedDictionary<string, FieldSet> None = [];

    private SortedDictionary<string, FieldSet>? _children;

    /// <summary>Whether the path that leads here is itself in the set.</summary>
    public bool Member { get; private set; }

    public bool HasChildren => _children is { Count: > 0 };

    public bool IsEmpty => !Member && !HasChildren;

    public IReadOnlyDictionary<string, FieldSet> Children => _children ?? None;

    public FieldSet? Child(string element) => _children?.GetValueOrDefault(element);

    /// <summary>A set of the given paths; elements are separated by spaces.</summary>
    public static FieldSet Of(params string[] paths)
    {
        var set = new FieldSet();
        foreach (string path in paths)
            set.Insert(path.Split(' '));
        return set;
    }

    /// <summary>Adds a path. The whole object is no path.</summary>
    public void Insert(IEnumerable<string> path)
    {
        FieldSet node = this;
        foreach (string element in path)
        {
            node._children ??= new SortedDictionary<string, FieldSet>(StringComparer.Ordinal);
            if (!node._children.TryGetValue(element, out FieldSet? child))
                node._children[element] = child = new FieldSet();
            node = child;
        }

        if (node != this)
            node.Member = true;
    }

    public FieldSet Union(FieldSet other) => Combine(this, other, (a, b) => a || b);

    public FieldSet Intersection(FieldSet other) => Combine(this, other, (a, b) => a && b);

    public FieldSet Difference(FieldSet other) => Combine(this, other, (a, b) => a && !b);

    /// <summary>Without <paramref name="other"/>'s paths and all below them.</summary>
    public FieldSet WithoutSubtrees(FieldSet other)
    {
        var result = new FieldSet { Member = Member };
        foreach ((string element, FieldSet child) in Children)
        {
            FieldSet? cut = other.Child(element);
            if (cut is { Member: true })
                continue;
            result.Adopt(element, cut is null ? child : child.WithoutSubtrees(cut));
        }

        return result;
    }

    private static FieldSet Combine(FieldSet? a, FieldSet? b, Func<bool, bool, bool> keeps)
    {
        var result = new FieldSet { Member = keeps(a?.Member ?? false, b?.Member ?? false) };
        foreach (string element in (a?.Children.Keys ?? []).Union(b?.Children.Keys ?? []))
            result.Adopt(element, Combine(a?.Child(element), b?.Child(element), keeps));
        return result;
    }

    private void Adopt(string element, FieldSet child)
    {
        if (child.IsEmpty)
            return;
        (_children ??= new SortedDictionary<string, FieldSet>(StringComparer.Ordinal))[element] = child;
    }

    public static FieldSet Parse(JsonObject? fieldsV1)
    {
        var set = new FieldSet();
        foreach ((string element, JsonNode? value) in fieldsV1 ?? [])
        {
            if (element == ".")
            {
                set.Member = true;
                continue;
            }

            FieldSet child = Parse(value as JsonObject);
            // A leaf stands for itself.
            if (!child.HasChildren)
                child.Member = true;
            set.Adopt(element, child);
        }

        return set;
    }

    public JsonObject ToJson()
    {
        var json = new JsonObject();
        if (Member && HasChildren)
            json["."] = new JsonObject();
        foreach ((string element, FieldSet child) in Children)
            json[element] = child.ToJson();
        return json;
    }

    /// <summary>The paths as conflicts name them, <c>.spec.requests[name="a"].count</c>: members of a level, then what is below.</summary>
    public IEnumerable<string> Paths(string prefix = "")
    {
        foreach ((string element, FieldSet child) in Children)
        {
            if (child.Member)
                yield return prefix + Spoken(element);
        }

        foreach ((string element, FieldSet child) in Children)
        {
            foreach (string path in child.Paths(prefix + Spoken(element)))
                yield return path;
        }
    }

    private static string Spoken(string element) =>
        element[0] switch
        {
            'f' => "." + element[2..],
            'v' => $"[={element[2..]}]",
            'k' => $"[{string.Join(",", Json.ParseObject(element[2..]).Select(k => $"{k.Key}={Json.Text(k.Value)}"))}]",
            _ => $"[{element[2..]}]",
        };
}
