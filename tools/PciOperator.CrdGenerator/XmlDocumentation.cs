using System.Reflection;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace PciOperator.CrdGenerator;

/// <summary>The summaries of types and properties, from the documentation files that the compiler writes beside the assemblies.</summary>
internal sealed partial class XmlDocumentation
{
    private readonly Dictionary<Assembly, Dictionary<string, XElement>> _members = [];

    /// <summary>A type's summary as plain text; null when it has none.</summary>
    public string? Of(Type type) => Text(Member(type.Assembly, $"T:{NameOf(type)}"));

    /// <summary>A property's summary as plain text, an interface's where it says <c>inheritdoc</c>; null when there is none.</summary>
    public string? Of(PropertyInfo property)
    {
        XElement? member = Member(property.DeclaringType!.Assembly, $"P:{NameOf(property.DeclaringType)}.{property.Name}");
        if (member?.Element("inheritdoc") is null)
            return Text(member);
        return property
            .DeclaringType.GetInterfaces()
            .Select(i => i.GetProperty(property.Name))
            .OfType<PropertyInfo>()
            .Select(Of)
            .FirstOrDefault(text => text is not null);
    }

    private static string NameOf(Type type) => (type.IsGenericType ? type.GetGenericTypeDefinition() : type).FullName!.Replace('+', '.');

    private XElement? Member(Assembly assembly, string id)
    {
        if (!_members.TryGetValue(assembly, out Dictionary<string, XElement>? ofAssembly))
        {
            string path = Path.ChangeExtension(assembly.Location, ".xml");
            ofAssembly = XDocument.Load(path).Descendants("member").ToDictionary(m => m.Attribute("name")!.Value);
            _members.Add(assembly, ofAssembly);
        }

        return ofAssembly.GetValueOrDefault(id);
    }

    private static string? Text(XElement? member)
    {
        if (member?.Element("summary") is not { } summary)
            return null;
        string text = string.Concat(
            summary
                .Nodes()
                .Select(node =>
                    node switch
                    {
                        XText plain => plain.Value,
                        XElement { Name.LocalName: "c" } code => $"`{code.Value}`",
                        XElement { Name.LocalName: "see" } see => $"`{FieldName(see.Attribute("cref")!.Value)}`",
                        XElement other => other.Value,
                        _ => "",
                    }
                )
        );
        return Spaces().Replace(text, " ").Trim();
    }

    // "P:Namespace.Type.Property" as it is in JSON.
    private static string FieldName(string cref)
    {
        string name = cref[(cref.LastIndexOf('.') + 1)..];
        return cref.StartsWith("P:", StringComparison.Ordinal) ? JsonNamingPolicy.CamelCase.ConvertName(name) : name;
    }

    [GeneratedRegex(@"\s+")]
    private static partial Regex Spaces();
}
