using System.Text;
using System.Text.RegularExpressions;

namespace PciOperator.Sandbox.ApiServer.Schemas;

/// <summary>Patterns in Go's RE2 syntax, as kube-apiserver reads them: <c>$</c> is the very end, <c>\d \w \s</c> are ASCII.</summary>
internal static class GoRegex
{
    public static Regex Compile(string pattern) => new(Translate(pattern), RegexOptions.CultureInvariant, TimeSpan.FromSeconds(1));

    private static string Translate(string pattern)
    {
        var output = new StringBuilder(pattern.Length + 8);
        bool inClass = false;
        for (int i = 0; i < pattern.Length; i++)
        {
            char c = pattern[i];
            if (c == '\\' && i + 1 < pattern.Length)
            {
                char escaped = pattern[++i];
                string? ascii = escaped switch
                {
                    'd' => "0-9",
                    'w' => "0-9A-Za-z_",
                    's' => @"\t\n\f\r ",
                    _ => null,
                };
                output.Append(
                    ascii is null ? $"\\{escaped}"
                    : inClass ? ascii
                    : $"[{ascii}]"
                );
                continue;
            }

            if (c == '[')
                inClass = true;
            else if (c == ']')
                inClass = false;
            output.Append(c == '$' && !inClass ? @"\z" : c.ToString());
        }

        return output.ToString();
    }
}
