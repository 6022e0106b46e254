namespace PciOperator.Host;

/// <summary>
/// What the kernel was booted with (/proc/cmdline; Documentation/admin-guide/kernel-parameters). Dashes and underscores in
/// a parameter's name are the same, what follows "--" is for init.
/// </summary>
internal sealed class KernelCommandLine
{
    private readonly List<(string Name, string Value)> _parameters = [];

    public KernelCommandLine(string text)
    {
        foreach (string word in text.Split((char[])[' ', '\t', '\n'], StringSplitOptions.RemoveEmptyEntries).TakeWhile(w => w != "--"))
        {
            int equals = word.IndexOf('=', StringComparison.Ordinal);
            _parameters.Add(equals < 0 ? (Plain(word), "") : (Plain(word[..equals]), word[(equals + 1)..].Trim('"')));
        }
    }

    /// <summary>Whether a word is there: Has("nointremap"), with or without a value.</summary>
    public bool Has(string name) => _parameters.Any(p => p.Name == Plain(name));

    /// <summary>All values of a parameter in their order, lists (a,b) in parts.</summary>
    public List<string> Values(string name) =>
        [.. _parameters.Where(p => p.Name == Plain(name)).SelectMany(p => p.Value.Split(',', StringSplitOptions.RemoveEmptyEntries))];

    /// <summary>Which of these values was given last; null when none was. The last one counts.</summary>
    public string? Last(string name, params string[] of) => Values(name).FindLast(of.Contains);

    private static string Plain(string name) => name.Replace('-', '_');
}
