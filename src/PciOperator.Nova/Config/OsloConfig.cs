using System.Text;
using PciOperator.Core;

namespace PciOperator.Nova;

/// <summary>An option of several files, by its name now or once.</summary>
/// <param name="Group">The group.</param>
/// <param name="Name">The name in it.</param>
public readonly record struct OsloName(string Group, string Name);

/// <summary>What several files say together, the later ones after the earlier, as oslo.config joins them.</summary>
public sealed class OsloConfig
{
    private const int DeepestReference = 16;

    private readonly IReadOnlyList<OsloFile> _files;
    private readonly Func<OsloName, bool> _exists;

    /// <summary>Joins files.</summary>
    /// <param name="files">In the order in which a program is given them.</param>
    /// <param name="exists">
    /// Whether the program may have such an option: what a file says without the program's knowing it is put in nowhere. Null: any.
    /// </param>
    public OsloConfig(IReadOnlyList<OsloFile> files, Func<OsloName, bool>? exists = null)
    {
        ArgumentNullException.ThrowIfNull(files);
        (_files, _exists) = (files, exists ?? (_ => true));
    }

    /// <summary>
    /// The values of an option that may be given more than once: file by file, and within a file its oldest name's first, wherever they stand
    /// (oslo.config puts each further name's values before what it has).
    /// </summary>
    /// <param name="names">The name, then its deprecated ones.</param>
    public IReadOnlyList<OsloAssignment> All(params IReadOnlyList<OsloName> names) =>
        [.. _files.SelectMany(file => names.Reverse().SelectMany(name => file.Assignments.Where(a => Is(a, name))))];

    /// <summary>The value of an option that may be given once: the last.</summary>
    public OsloAssignment? Last(OsloName name) => _files.SelectMany(f => f.Assignments).LastOrDefault(a => Is(a, name));

    /// <summary>Whether an option says yes, as oslo.config's booleans do; null: it isn't given, or is no boolean.</summary>
    public bool? Boolean(OsloName name) =>
        Last(name)?.Value.ToLowerInvariant() switch
        {
            "true" or "1" or "on" or "yes" => true,
            "false" or "0" or "off" or "no" => false,
            _ => null,
        };

    /// <summary>
    /// The value with <c>$name</c>, <c>${name}</c> and <c>$group.name</c> put in, <c>$$</c> and <c>\$</c> being a <c>$</c>. What is no name
    /// after a <c>$</c> stays, as in a regular expression's <c>$"</c>.
    /// </summary>
    /// <param name="assignment">The option.</param>
    /// <param name="taken">What was put in, and where it is said.</param>
    /// <exception cref="SpecFormatException">A name that the files don't say.</exception>
    public string Substitute(OsloAssignment assignment, ICollection<OsloAssignment> taken)
    {
        ArgumentNullException.ThrowIfNull(assignment);
        ArgumentNullException.ThrowIfNull(taken);
        return Substitute(assignment, taken, DeepestReference);
    }

    private static bool Is(OsloAssignment assignment, OsloName name) => assignment.NormalGroup == name.Group && assignment.Key == name.Name;

    private string Substitute(OsloAssignment assignment, ICollection<OsloAssignment> taken, int depth)
    {
        string text = assignment.Value.Replace(@"\$", "$$", StringComparison.Ordinal);
        if (!text.Contains('$', StringComparison.Ordinal))
            return text;
        if (depth == 0)
            throw new SpecFormatException(assignment.Key, $"{assignment.Key} refers to itself by its ${{…}}");
        var result = new StringBuilder(text.Length);
        for (int i = 0; i < text.Length; )
        {
            if (text[i] != '$')
            {
                result.Append(text[i++]);
                continue;
            }

            (int length, string? name) = Reference(text.AsSpan(i));
            result.Append(name is null ? "$" : Value(name, assignment, taken, depth));
            i += length;
        }

        return result.ToString();
    }

    private string Value(string name, OsloAssignment from, ICollection<OsloAssignment> taken, int depth)
    {
        // A group is named as it is registered, in lower case; DEFAULT is none.
        int dot = name.IndexOf('.', StringComparison.Ordinal);
        OsloAssignment? found =
            dot < 0 ? Find(new OsloName(from.NormalGroup, name)) ?? Find(new OsloName(OsloFile.DefaultGroup, name))
            : name[..dot] == OsloFile.DefaultGroup ? null
            : Find(new OsloName(name[..dot], name[(dot + 1)..]));
        if (found is null)
        {
            throw new SpecFormatException(
                from.Key,
                $"${name} is another option's value, and the files don't say that option: write the value itself (a '$' that is meant as such is $$)"
            );
        }

        if (!taken.Contains(found))
            taken.Add(found);
        return Substitute(found, taken, depth - 1);
    }

    private OsloAssignment? Find(OsloName name) => _exists(name) ? Last(name) : null;

    /// <summary>What stands at a <c>$</c>: how long it is, and the name, or null for one that is only a <c>$</c>.</summary>
    private static (int Length, string? Name) Reference(ReadOnlySpan<char> text)
    {
        if (text.Length > 1 && text[1] == '$')
            return (2, null);
        bool braced = text.Length > 1 && text[1] == '{';
        int start = braced ? 2 : 1;
        int end = start;
        while (end < text.Length && (IsFirst(text[end]) || (end > start && (text[end] == '.' || char.IsAsciiDigit(text[end])))))
            end++;
        if (end == start || (braced && (end == text.Length || text[end] != '}')))
            return (1, null);
        return (braced ? end + 1 : end, text[start..end].ToString());
    }

    private static bool IsFirst(char c) => c == '_' || char.IsAsciiLetter(c);
}
