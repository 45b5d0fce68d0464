'use strict';
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Filters: an element passes if it names every chosen index, or says nothing of that kind.
  const form = document.getElementById('filters');
  form.hidden = false;
  const kinds = all('select', form);
  const marked = all('[data-d],[data-o],[data-t]', document.querySelector('main'));
  const rows = all('#cases tbody tr');
  const filter = () => {
    const chosen = kinds.filter(kind => kind.value !== '').map(kind => [kind.name, kind.value]);
    for (const element of marked) {
      const passes = ([name, value]) => !(name in element.dataset) || element.dataset[name].split(' ').includes(value);
      element.classList.toggle('off', !chosen.every(passes));
    }
    for (const group of all('.group')) {
      const bars = all('.bar', group);
      if (bars.length) group.classList.toggle('off', bars.every(bar => bar.classList.contains('off')));
    }
    const shown = rows.filter(row => !row.classList.contains('off')).length;
    form.querySelector('output').textContent = `${shown} of ${rows.length} cases`;
    const none = document.querySelector('.unmatched');
    if (none) none.hidden = shown > 0 || rows.length === 0;
  };
  form.addEventListener('change', filter);
  form.addEventListener('submit', event => event.preventDefault());
  form.addEventListener('reset', () => setTimeout(filter));
  filter();

  // Sorting: by value where a cell has one, else by text; what has neither comes last.
  const heads = all('#cases thead th');
  const body = document.querySelector('#cases tbody');
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const down = head.getAttribute('aria-sort') === 'ascending';
      heads.forEach(other => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      const key = row => {
        const cell = row.children[column];
        if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
        const text = cell.textContent.trim();
        return text === '–' ? null : text;
      };
      const order = (a, b) => typeof a === 'number' && typeof b === 'number' ? a - b
        : typeof a === 'number' ? -1 : typeof b === 'number' ? 1 : a.localeCompare(b, 'en', { numeric: true });
      const keyed = rows.map((row, index) => [key(row), index, row]);
      keyed.sort(([a, i], [b, j]) => a === null || b === null ? (a === null) - (b === null) || i - j
        : (down ? order(b, a) : order(a, b)) || i - j);
      body.append(...keyed.map(([, , row]) => row));
    });
  });

  // Words on hover, focus and touch. The browser's own come too late, and not at all on touch.
  const tip = document.getElementById('tip');
  const show = dot => {
    tip.textContent = dot.getAttribute('aria-label');
    tip.hidden = false;
    const [box, size] = [dot.getBoundingClientRect(), tip.getBoundingClientRect()];
    const left = box.left + box.width / 2 - size.width / 2;
    tip.style.left = `${scrollX + Math.max(12, Math.min(left, document.documentElement.clientWidth - size.width - 12))}px`;
    tip.style.top = `${scrollY + (box.top - size.height - 10 < 0 ? box.bottom + 10 : box.top - size.height - 10)}px`;
  };
  const hide = () => { tip.hidden = true; };
  for (const plot of all('.roofline')) {
    const dots = all('.dot', plot);
    dots.forEach((dot, index) => {
      const title = dot.querySelector('title');
      dot.setAttribute('aria-label', title.textContent);
      title.remove();
      // One stop for the tab key in each plot; the arrows go on from there.
      dot.setAttribute('tabindex', index === 0 ? '0' : '-1');
      for (const on of ['mouseenter', 'focus', 'touchstart']) dot.addEventListener(on, () => show(dot), { passive: true });
      for (const off of ['mouseleave', 'blur']) dot.addEventListener(off, hide);
      dot.addEventListener('keydown', event => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (event.key === 'Escape') hide();
        if (!step) return;
        event.preventDefault();
        const open = dots.filter(other => !other.classList.contains('off'));
        open[(open.indexOf(dot) + step + open.length) % open.length]?.focus();
      });
    });
  }
  addEventListener('scroll', hide, { passive: true });
})();
