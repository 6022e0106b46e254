using System.Text;

namespace PciOperator.Import;

/// <summary>Names that Kubernetes takes, each given once.</summary>
internal sealed class ObjectNames
{
    // A name of an object may be longer; one that is also a label's value, or a host's, may not.
    private const int Longest = 63;

    private readonly HashSet<string> _given = new(StringComparer.Ordinal);

    /// <summary>
    /// The text as a DNS label: letters in lower case, one '-' for each run of anything else. The same text always gives the same name, so that
    /// flavors find their aliases.
    /// </summary>
    /// <param name="text">Any text.</param>
    /// <param name="otherwise">The name where the text has no letter and no digit.</param>
    public static string Label(string text, string otherwise)
    {
        var label = new StringBuilder();
        foreach (char c in text)
        {
            if (char.IsAsciiLetterOrDigit(c))
                label.Append(char.ToLowerInvariant(c));
            else if (label.Length > 0 && label[^1] != '-')
                label.Append('-');
            if (label.Length == Longest)
                break;
        }

        string name = label.ToString().TrimEnd('-');
        return name.Length == 0 ? otherwise : name;
    }

    /// <summary>The name, with a number behind it where it is taken.</summary>
    public string Unique(string name)
    {
        string free = name;
        for (int i = 2; !_given.Add(free); i++)
        {
            string ending = $"-{i}";
            free = name[..Math.Min(name.Length, Longest - ending.Length)].TrimEnd('-') + ending;
        }

        return free;
    }
}
