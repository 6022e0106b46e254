using System.Diagnostics;

namespace PciOperator.KilledPrograms;

/// <summary>
/// Ends this very process with SIGKILL at a named point of its work: before or after one write or API call. Another
/// process says which by standard input, and hears of the points by standard output.
/// </summary>
internal sealed class KillSwitch
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, int> _reached = [];
    private string? _name;
    private int _occurrence;
    private bool _after;
    private bool _traced;

    /// <summary>A point of work is about to be passed, or was.</summary>
    public void Reach(string name, bool before)
    {
        lock (_lock)
        {
            if (before)
            {
                int count = _reached[name] = _reached.GetValueOrDefault(name) + 1;
                if (_traced)
                    Console.WriteLine($"point {count} {name}");
            }

            if (name != _name || before == _after || _reached.GetValueOrDefault(name) != _occurrence)
                return;
            Process.GetCurrentProcess().Kill();
            Thread.Sleep(Timeout.Infinite);
        }
    }

    /// <summary>Listens to commands until standard input ends: <c>trace</c>, <c>count</c> (anew), <c>arm before|after N NAME</c>.</summary>
    public void Listen()
    {
        while (Console.ReadLine() is { } line)
        {
            string[] words = line.Split(' ', 4);
            lock (_lock)
            {
                _reached.Clear();
                _name = null;
                _traced = words[0] == "trace";
                if (words is ["arm", var when, var occurrence, var name])
                    (_name, _occurrence, _after) = (name, int.Parse(occurrence), when == "after");
            }

            Console.WriteLine("done");
        }
    }
}
