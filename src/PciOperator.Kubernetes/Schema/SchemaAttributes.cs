namespace PciOperator.Kubernetes.Schema;

// Attributes from which a CustomResourceDefinition is generated, named as KubeOps names them. They carry no behaviour:
// the generator reads them, and descriptions come from the XML documentation of the members.

/// <summary>A column of <c>kubectl get</c> (a CRD's <c>additionalPrinterColumns</c>).</summary>
/// <param name="jsonPath">Where the value is, as in <c>.status.phase</c>.</param>
/// <param name="name">The column's heading.</param>
/// <param name="type">string, integer, boolean, number or date.</param>
[AttributeUsage(AttributeTargets.Class, AllowMultiple = true)]
public sealed class AdditionalPrinterColumnAttribute(string jsonPath, string name, string type = "string") : Attribute
{
    /// <summary>Where the value is.</summary>
    public string JsonPath { get; } = jsonPath;

    /// <summary>The column's heading.</summary>
    public string Name { get; } = name;

    /// <summary>The value's type.</summary>
    public string Type { get; } = type;

    /// <summary>0: always shown; above: with <c>-o wide</c> only.</summary>
    public int Priority { get; set; }

    /// <summary>What the column says.</summary>
    public string? Description { get; set; }
}

/// <summary>Short names and categories of a kind, as <c>kubectl</c> takes them.</summary>
[AttributeUsage(AttributeTargets.Class)]
public sealed class EntityNamesAttribute(string shortName) : Attribute
{
    /// <summary>The short name.</summary>
    public string ShortName { get; } = shortName;

    /// <summary>The categories, such as <c>pci</c> in <c>kubectl get pci</c>.</summary>
    public string[] Categories { get; set; } = [];
}

/// <summary>A field that <c>--field-selector</c> may use (a CRD's <c>selectableFields</c>).</summary>
[AttributeUsage(AttributeTargets.Class, AllowMultiple = true)]
public sealed class SelectableFieldAttribute(string jsonPath) : Attribute
{
    /// <summary>Where the value is, as in <c>.status.nodeName</c>.</summary>
    public string JsonPath { get; } = jsonPath;
}

/// <summary>A regular expression (RE2) that a string, or every item of a list of strings, must match.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class PatternAttribute(string pattern) : Attribute
{
    /// <summary>The expression, anchored where it matters.</summary>
    public string Pattern { get; } = pattern;
}

/// <summary>Bounds of a string's length, or of every item's in a list or map of strings, in characters.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class LengthAttribute(int min, int max) : Attribute
{
    /// <summary>Shortest.</summary>
    public int Min { get; } = min;

    /// <summary>Longest.</summary>
    public int Max { get; } = max;
}

/// <summary>Bounds of the number of items of a list, or of entries of a map.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class ItemsAttribute(int min, int max) : Attribute
{
    /// <summary>Fewest.</summary>
    public int Min { get; } = min;

    /// <summary>Most.</summary>
    public int Max { get; } = max;
}

/// <summary>Bounds of a number, both included.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class RangeAttribute(long min, long max) : Attribute
{
    /// <summary>Smallest.</summary>
    public long Min { get; } = min;

    /// <summary>Largest.</summary>
    public long Max { get; } = max;
}

/// <summary>The keys that tell a list's items apart (<c>x-kubernetes-list-type: map</c>).</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class ListMapKeysAttribute(params string[] keys) : Attribute
{
    /// <summary>The fields' JSON names.</summary>
    public string[] Keys { get; } = keys;

    /// <summary>
    /// Whether an item has one owner as a whole (<c>x-kubernetes-map-type: atomic</c>). The server then keeps one name for each item,
    /// instead of one for each of its fields: of a node with 250 devices these names are half of the object, and of what a write of it
    /// costs.
    /// </summary>
    public bool WholeItems { get; init; }
}

/// <summary>The list is a set (<c>x-kubernetes-list-type: set</c>).</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class ListSetAttribute : Attribute;

/// <summary>The field must be given.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class RequiredAttribute : Attribute;

/// <summary>A word of its enum that the field does not take.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class ExceptAttribute(string word) : Attribute
{
    /// <summary>The word, as it is written.</summary>
    public string Word { get; } = word;
}

/// <summary>The value the API server fills in when the field is absent.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class DefaultAttribute(string json) : Attribute
{
    /// <summary>The value as JSON text.</summary>
    public string Json { get; } = json;
}

/// <summary>Verbs on a kind that a program needs; the roles in <c>config/</c> are checked against them.</summary>
[AttributeUsage(AttributeTargets.Class, AllowMultiple = true)]
public sealed class EntityRbacAttribute(string group, string resources, string verbs) : Attribute
{
    /// <summary>The API group; empty for the core group.</summary>
    public string Group { get; } = group;

    /// <summary>Plural names, separated by commas.</summary>
    public string Resources { get; } = resources;

    /// <summary>Verbs, separated by commas.</summary>
    public string Verbs { get; } = verbs;
}
